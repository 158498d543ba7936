"""Words from a file, one a line, the line number (from 0) being the id: a tokenizer's tokens, or names of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import ModelError, OptionError, unknown
from workbench.core.strict_json import read_text
from workbench.model.directory import MOST_TEXT

_USUAL = {
    "bos": ("<bos>", "BOS", "[BOS]", "<s>", "<|endoftext|>"),
    "eos": ("<eos>", "EOS", "[EOS]", "</s>", "<|endoftext|>"),
    "pad": ("<pad>", "PAD", "[PAD]"),
    "unk": ("<unk>", "UNK", "[UNK]"),
}


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of a vocabulary, and which of them are special; None where it has no such token."""

    words: tuple[str, ...]
    split: Literal["words", "characters"]
    bos: str | None
    eos: str | None
    pad: str | None
    unk: str

    def describe(self) -> str:
        """Return one line for reports."""
        special = [f"{role} {getattr(self, role)}" for role in _USUAL if getattr(self, role) is not None]
        return f"{len(self.words)} {self.split}; " + (", ".join(special) if special else "no special tokens")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A vocabulary file and how to use it.

    Special tokens left at None are looked for under their usual names (`<bos>`, `BOS`, `<pad>`, ...). Text is
    split at whitespace ("words") or into single characters. No token is added: the model has no embedding for
    it. So a word that is not in the vocabulary becomes `unk`, which has to be one of the tokens.
    """

    path: Path
    split: str = "words"
    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unk: str | None = None

    def __post_init__(self) -> None:
        if self.split not in ("words", "characters"):
            raise unknown("way to split", self.split, ("words", "characters"), error=OptionError)

    def read(self, d_vocab: int) -> Tokens:
        """Return the tokens of the file.

        Raises:
            ModelError: if it does not have one different token for each of the `d_vocab` embeddings.
        """
        words = _lines(self.path, "the vocabulary", "token")
        for number, word in enumerate(words, 1):
            if self.split == "words" and word.split() != [word]:
                raise ModelError(
                    f"{self.path}, line {number}: {word!r} has whitespace in it, where text is split",
                    hint="--split-by characters, if the model reads single characters",
                )
        if len(words) != d_vocab:
            raise ModelError(
                f"{self.path} has {len(words)} tokens; the model has {d_vocab} (d_vocab)",
                hint=f"give a file with {d_vocab} lines, one token each",
            )
        bos, eos, pad, unk = (self._special(role, words) for role in ("bos", "eos", "pad", "unk"))
        if unk is None:
            usual = ", ".join(_USUAL["unk"])
            raise ModelError(
                f"{self.path} has no token for words that are not in it (looked for {usual})",
                hint="name one with --unk, best a token that no text has, such as PAD",
            )
        split: Literal["words", "characters"] = "words" if self.split == "words" else "characters"
        return Tokens(words=tuple(words), split=split, bos=bos, eos=eos, pad=pad, unk=unk)

    def _special(self, role: str, known: Sequence[str]) -> str | None:
        named = getattr(self, role)
        if named is None:
            return next((name for name in _USUAL[role] if name in known), None)
        if named not in known:
            raise ModelError(
                f"{self.path} has no token {named!r} to be {role}",
                hint=f"name a token that is in the file: --{role} TOKEN",
            )
        return named


def read_output_names(path: Path, d_vocab_out: int) -> tuple[str, ...]:
    """Return names of a model's outputs from a file.

    Raises:
        ModelError: if it does not have one different name for each of the `d_vocab_out` outputs.
    """
    names = _lines(path, "the output names", "name")
    if len(names) != d_vocab_out:
        raise ModelError(
            f"{path} has {len(names)} names; the model has {d_vocab_out} outputs (d_vocab_out)",
            hint=f"give a file with {d_vocab_out} lines, one name each",
        )
    return tuple(names)


def _lines(path: Path, what: str, one: str) -> list[str]:
    """The lines of a file, none of them empty and no two alike."""
    try:
        text = read_text(path, most_bytes=MOST_TEXT, error=ModelError)
    except ModelError as problem:
        raise ModelError(f"{what} cannot be read: {problem.message}", hint=problem.hint) from problem
    words = [word.removesuffix("\r") for word in text.removesuffix("\n").split("\n")]
    first: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        if not word:
            raise ModelError(
                f"{path}, line {number} is empty; every line is a {one}",
                hint="remove the line, or write what belongs there",
            )
        if word in first:
            raise ModelError(
                f"{path}, line {number}: {word!r} stands on line {first[word]} already",
                hint="remove one of the two lines, or correct it",
            )
        first[word] = number
    return words


def write_tokenizer(tokens: Tokens, directory: Path, *, n_ctx: int) -> None:
    """Write a word-level tokenizer in Hugging Face format."""
    vocabulary = {word: i for i, word in enumerate(tokens.words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=tokens.unk))
    if tokens.split == "words":
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    special = {f"{role}_token": getattr(tokens, role) for role in _USUAL if getattr(tokens, role) is not None}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=n_ctx, **special).save_pretrained(
        directory
    )
