"""The tokens of one prompt with the characters that each covers, and why two prompts do not go together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workbench.tasks.pairs import Span


class Drop(Exception):
    """Why a pair is left out: the kind of reason, a sentence, the words at fault."""

    def __init__(self, kind: str, reason: str, words: Iterable[str] = ()) -> None:
        self.kind, self.reason, self.words = kind, reason, words


@dataclass(frozen=True)
class PromptTokens:
    """One prompt: its ids and the characters each covers (special tokens cover none)."""

    text: str
    ids: list[int]
    spans: list[Span]
    special: list[bool]

    def covering(self, span: Span) -> list[int]:
        return [
            index
            for index, (start, end) in enumerate(self.spans)
            if not self.special[index] and start < span[1] and end > span[0]
        ]

    def spread(self, index: int, instead: Sequence[int]) -> PromptTokens:
        """The same with these ids in place of one token; each covers what it did."""
        spans, special = (
            [*row[:index], *[row[index]] * len(instead), *row[index + 1 :]]
            for row in (self.spans, self.special)
        )
        return PromptTokens(self.text, [*self.ids[:index], *instead, *self.ids[index + 1 :]], spans, special)

    def token(self, index: int) -> str:
        start, end = self.spans[index]
        return self.text[start:end]


def position_of(
    name: str, clean_span: Span, corrupted_span: Span, clean: PromptTokens, corrupted: PromptTokens
) -> int:
    """Return the token of a named position: the last that its words cover, the same in both prompts.

    Raises:
        Drop: if it is not, or the words are not made of whole tokens.
    """
    index = _last_token(name, clean_span, clean, "clean")
    other = _last_token(name, corrupted_span, corrupted, "corrupted")
    if index != other:
        words = [clean.text[slice(*clean_span)], corrupted.text[slice(*corrupted_span)]]
        found = f"token {index} of the clean and token {other} of the corrupted prompt"
        raise Drop("position", f"position {name} is {found} ({words[0]!r} / {words[1]!r})", words)
    return index


def _last_token(name: str, span: Span, tokens: PromptTokens, side: str) -> int:
    covering = tokens.covering(span)
    word = tokens.text[slice(*span)]
    if not covering:
        raise Drop("position", f"position {name} ({word!r}) covers no token of the {side} prompt", [word])
    start, end = tokens.spans[covering[0]][0], tokens.spans[covering[-1]][1]
    outside = tokens.text[start : span[0]] + tokens.text[span[1] : end]
    if outside.strip():
        parts = " + ".join(repr(tokens.token(index)) for index in covering)
        reason = f"position {name} ({word!r}) of the {side} prompt is not made of whole tokens: {parts}"
        raise Drop("position", reason, [word])
    return covering[-1]


def different_length(clean: PromptTokens, corrupted: PromptTokens, n_clean: int, n_corrupted: int) -> Drop:
    """Return why prompts of different lengths are left out: where they differ first, and at which words."""
    both = min(len(clean.ids), len(corrupted.ids))
    first = next((i for i in range(both) if clean.ids[i] != corrupted.ids[i]), both)
    names = [
        repr(tokens.token(first)) if first < len(tokens.ids) else "(end)" for tokens in (clean, corrupted)
    ]
    reason = (
        f"{n_clean} clean and {n_corrupted} corrupted tokens; first difference: "
        f"token {first + n_clean - len(clean.ids)} {names[0]} / {names[1]}"
    )
    return Drop("length", reason, _uneven_words(clean, corrupted, first))


def _uneven_words(clean: PromptTokens, corrupted: PromptTokens, first: int) -> list[str]:
    """Words that take the place of one another but have different numbers of tokens."""
    spans = [
        [found.span() for found in re.finditer(r"\w+|[^\w\s]+", tokens.text)] for tokens in (clean, corrupted)
    ]
    if len(spans[0]) == len(spans[1]):
        words = []
        for a, b in zip(*spans, strict=True):
            sizes = len(clean.covering(a)), len(corrupted.covering(b))
            if sizes[0] != sizes[1]:
                words.append(clean.text[slice(*a)] if sizes[0] > sizes[1] else corrupted.text[slice(*b)])
        if words:
            return words
    return [tokens.token(first).strip() for tokens in (clean, corrupted) if first < len(tokens.ids)]
