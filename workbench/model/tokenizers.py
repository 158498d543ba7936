"""Loading a model's tokenizer so that it does what its files say, or saying that there is none."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.errors import ModelError, explaining

_N_SAMPLES = 64


def load_tokenizer(directory: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a local directory; None if the directory has none.

    Raises:
        ModelError: if there are tokenizer files that cannot be read.
    """
    if not has_tokenizer_files(directory):
        return None
    hint = "repair tokenizer.json, or pass tokenizer= to open_model"
    with explaining(f"the tokenizer in {directory} cannot be read", error=ModelError, hint=hint):
        tokenizer = AutoTokenizer.from_pretrained(
            str(directory), trust_remote_code=trust_remote_code, local_files_only=True
        )
        if (directory / "tokenizer.json").is_file() and not _agrees(tokenizer, directory / "tokenizer.json"):
            # transformers 5.23 rebuilds some tokenizers by model type (Qwen2Tokenizer) and then splits text
            # unlike the tokenizer.json beside the weights: of four known words it knew two.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        return tokenizer if len(tokenizer) > 1 else None


def has_tokenizer_files(directory: Path) -> bool:
    """Whether a directory has a vocabulary; without this check an empty tokenizer is made up."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
    return any((directory / name).is_file() for name in names)


def prepare(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy that TransformerLens takes as it is.

    TransformerLens would load the tokenizer anew from its path to make it prepend BOS. That fails for a
    tokenizer without a path and undoes the repair in `load_tokenizer`; two entries keep it from trying.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs.setdefault("name_or_path", "in-memory")
    tokenizer.init_kwargs["add_bos_token"] = True
    return tokenizer


def _agrees(tokenizer: PreTrainedTokenizerBase, path: Path) -> bool:
    """Whether a tokenizer splits its own vocabulary as the file does."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(path))
    plain.no_truncation()
    plain.no_padding()
    words = sorted(plain.get_vocab(with_added_tokens=False))
    sample = words[:: max(1, len(words) // _N_SAMPLES)]
    texts = [*sample, " ".join(sample)]
    expected = [encoded.ids for encoded in plain.encode_batch(texts, add_special_tokens=False)]
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts] == expected
