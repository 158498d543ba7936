"""Pairs whose correct and whose incorrect answer are both read token by token: each pair is two rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from workbench.tasks.pairs import Pair, Pairs

WholeAnswers = bool | Literal["both"]
"""Whether answers are read token by token: the correct one alone, or the correct and the incorrect one."""


def doubled(pairs: Pairs) -> Pairs:
    """Return every pair twice, of one id: followed by its correct answer, then followed by its incorrect one.

    Example:
        >>> from workbench.tasks.in_memory import as_pairs
        >>> [one.correct for one in doubled(as_pairs([("a b", "c b", " d", " e")]))]
        [(' d',), (' e',)]
    """
    items = tuple(
        row for pair in pairs for row in (pair, replace(pair, correct=pair.incorrect, incorrect=pair.correct))
    )
    return replace(pairs, items=items)


def why_not(pair: Pair, tokens: Sequence[Sequence[int]]) -> tuple[str, str]:
    """Return kind and reason why a pair has no two whole answers; empty where it has.

    Args:
        tokens: Of its answers, as far as they could be read: one for each row of the pair that aligns.
    """
    if len(pair.incorrect) != 1:
        return (
            "answer",
            f"there are {len(pair.incorrect)} incorrect answers; two whole answers need exactly one",
        )
    if len(tokens) != 2:
        return "answer", "only one of its two answers can be read"
    same = tuple(tokens[0]) == tuple(tokens[1])
    return ("same-answer", "its correct and its incorrect answer are the same tokens") if same else ("", "")
