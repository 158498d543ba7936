"""Tokenizers of the built-in models: whole words, or byte pairs learned from text. All have real special tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import OptionError

SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
BOS, EOS, PAD, UNK = range(4)
N_SPECIAL = 4


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return one token per word; spaces only separate, so " Mary" and "Mary" are the same token.

    Punctuation is split off words ("park," is two tokens). Unknown words become ``<unk>``.

    Raises:
        ValueError: if a word would itself be split or appears twice.
    """
    if len(set(words)) != len(words):
        raise OptionError(
            "words repeat: " + ", ".join(sorted({w for w in words if list(words).count(w) > 1})),
            hint="give each word once: dict.fromkeys(words)",
        )
    vocab = {token: index for index, token in enumerate([*SPECIAL.values(), *words])}
    core = Tokenizer(models.WordLevel(vocab, unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # spaces between words, none before commas
    split = [w for w in words if len(core.encode(w, add_special_tokens=False).ids) != 1]
    if split:
        raise OptionError(
            f"these words are cut into several tokens: {', '.join(split[:10])}",
            hint="give words without blanks or punctuation inside",
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **SPECIAL)


def byte_pair_tokenizer(texts: Iterator[str], *, size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte pairs learned from texts: every string can be written, no token is ever unknown."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **SPECIAL)
