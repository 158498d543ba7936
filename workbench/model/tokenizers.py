"""Loading a model's tokenizer so that it does what its files say, or saying that there is none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.core.bounds import exists
from workbench.core.errors import ModelError, explaining
from workbench.model.directory import MOST_TEXT, read_fields

_N_SAMPLES = 64


def load_tokenizer(directory: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer in a local directory; None if the directory has none.

    Raises:
        ModelError: if there are tokenizer files that cannot be read.
    """
    if not has_tokenizer_files(directory):
        return None
    hint = "repair tokenizer.json, or pass tokenizer= to open_model"
    with explaining(f"the tokenizer in {directory} cannot be read", error=ModelError, hint=hint):
        if exists(directory / "tokenizer.json"):
            _refuse_shared_ids(directory / "tokenizer.json", hint)
        tokenizer = AutoTokenizer.from_pretrained(
            str(directory), trust_remote_code=trust_remote_code, local_files_only=True
        )
        if (directory / "tokenizer.json").is_file() and not _agrees(tokenizer, directory / "tokenizer.json"):
            # transformers 5.23 rebuilds some tokenizers by model type (Qwen2Tokenizer) and then splits text
            # unlike the tokenizer.json beside the weights: of four known words it knew two.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        return tokenizer if len(tokenizer) > 1 else None


def has_tokenizer_files(directory: Path) -> bool:
    """Say whether a directory has a vocabulary; without this check an empty tokenizer is made up."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
    return any((directory / name).is_file() for name in names)


def _refuse_shared_ids(path: Path, hint: str) -> None:
    """Do nothing if each token of a tokenizer.json has an id of its own, and added ones that which the file gives.

    The parser takes one of two words with one id, and gives an added token the next free id, both without a word.

    Raises:
        ModelError: naming the tokens.
    """
    fields = read_fields(path, most_bytes=MOST_TEXT)
    model = fields.get("model")
    given = model.get("vocab") if isinstance(model, Mapping) else None
    words: dict[str, object] = dict(given) if isinstance(given, Mapping) else {}
    owner: dict[object, str] = {}
    for word, number in words.items():
        if type(number) is not int:
            raise ModelError(f"{path}: the id of {word!r:.80} is no whole number", hint=hint)
        if number in owner:
            raise ModelError(
                f"{path}: {owner[number]!r:.80} and {word!r:.80} both have the id {number}", hint=hint
            )
        owner[number] = word
    plain = Tokenizer.from_file(str(path))
    for row in fields.get("added_tokens") or ():
        if plain.token_to_id(row["content"]) != row["id"]:
            raise ModelError(
                f"{path}: the added token {row['content']!r:.80} has the id {row['id']}, and would be read as "
                f"{plain.token_to_id(row['content'])}",
                hint=hint,
            )


def prepare(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy that TransformerLens takes as it is.

    TransformerLens would load the tokenizer anew from its path to make it prepend BOS. That fails for a
    tokenizer without a path and undoes the repair in `load_tokenizer`; two entries keep it from trying.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs.setdefault("name_or_path", "in-memory")
    tokenizer.init_kwargs["add_bos_token"] = True
    return tokenizer


def _agrees(tokenizer: PreTrainedTokenizerBase, path: Path) -> bool:
    """Whether a tokenizer splits its own vocabulary as the file does."""
    plain = Tokenizer.from_file(str(path))
    plain.no_truncation()
    plain.no_padding()
    words = sorted(plain.get_vocab(with_added_tokens=False))
    sample = words[:: max(1, len(words) // _N_SAMPLES)]
    texts = [*sample, " ".join(sample)]
    expected = [encoded.ids for encoded in plain.encode_batch(texts, add_special_tokens=False)]
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts] == expected
