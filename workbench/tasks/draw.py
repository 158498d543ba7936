"""Random choices that are the same on every machine, and text with named slots."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from string import Formatter
from typing import TypeVar

from workbench.core.errors import OptionError
from workbench.tasks.pairs import Span

T = TypeVar("T")

PIECES = re.compile(r"\w+|[^\w\s]+")
"""What a word-level tokenizer takes for one token: a word, or a run of punctuation."""


class Draw:
    """Choices from one text seed.

    Built on ``random.Random.random`` alone: it is the only method whose sequence Python promises to keep
    between versions, and seeding by a string does not depend on the hash seed.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, n: int) -> int:
        """Return a number from 0 to n - 1."""
        return int(self._random() * n)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """Return ``k`` different options in random order (the first k steps of a Fisher-Yates shuffle)."""
        if k > len(options):
            raise OptionError(
                f"{k} different items are asked for; only {len(options)} exist", hint="ask for fewer"
            )
        pool = list(options)
        for i in range(k):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]


@cache
def bucket(*words: str) -> int:
    """Return a fixed number from 0 to 9 for an unordered set of words, from their SHA-256."""
    text = "|".join(sorted(words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10


def allowed(split: str, *words: str) -> bool:
    """Say whether a combination of words belongs to a split: bucket 0 is test, 1 validation, the rest train."""
    return {0: "test", 1: "validation"}.get(bucket(*words), "train") == split


@cache
def _parsed(template: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, slot) for literal, slot, _, _ in Formatter().parse(template))


def render(template: str, slots: Mapping[str, str]) -> tuple[str, dict[str, Span]]:
    """Fill a template and say where each slot's first use landed, in characters.

    Example:
        >>> render("{a} met {b}.", {"a": "Ann", "b": "Bo"})
        ('Ann met Bo.', {'a': (0, 3), 'b': (8, 10)})
    """
    text = ""
    spans: dict[str, Span] = {}
    for literal, slot in _parsed(template):
        text += literal
        if slot is not None:
            spans.setdefault(slot, (len(text), len(text) + len(slots[slot])))
            text += slots[slot]
    return text, spans


def next_piece(text: str, start: int) -> Span:
    """Span of the first word or punctuation at or after ``start``."""
    found = PIECES.search(text, start)
    if found is None:
        raise OptionError(
            f"nothing follows character {start} of {text!r}",
            hint=f"a start before a word: 0 to {max(0, len(text) - 1)}",
        )
    return found.span()


def both(
    clean: Mapping[str, Span], corrupted: Mapping[str, Span], **names: str
) -> dict[str, tuple[Span, Span]]:
    """Return positions of a pair: ``both(spans, spans, S2="S")`` calls slot S of both prompts S2."""
    return {name: (clean[slot], corrupted[slot]) for name, slot in names.items()}


def choose(option: str, value: str, known: Sequence[str]) -> str:
    """Return the value, if it is one of those known.

    Raises:
        OptionError: otherwise.
    """
    if value not in known:
        raise OptionError(
            f"{option} is {value!r}; expected one of {', '.join(known)}",
            hint=f"{option}={known[0]} (--task-option {option}={known[0]})",
        )
    return value


def of_split(split: str, train: Sequence[T], held_out: Sequence[T], templates: str) -> Sequence[T]:
    """Templates to draw from: test uses the held-out ones, train and validation the others.

    ``templates`` overrules it: ``train``, ``held-out`` or ``all`` (``split`` keeps the rule).
    """
    choose("templates", templates, ("split", "train", "held-out", "all"))
    if templates == "all":
        return (*train, *held_out)
    if templates == "split":
        templates = "held-out" if split == "test" else "train"
    return held_out if templates == "held-out" else train
