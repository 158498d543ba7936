"""Relay: one marked word stands somewhere in a row, and the last token asks for it. Accuracy by distance is reach."""

from __future__ import annotations

import numpy as np

from workbench.core.errors import OptionError
from workbench.tasks.streams.rows import NOTHING, StreamRows, check_at_least


def relay_rows(
    rng: np.random.Generator,
    n: int,
    *,
    length: int = 64,
    words: int = 16,
    fillers: int = 8,
    distances: tuple[int, int] | None = None,
) -> StreamRows:
    """Draw rows of fillers with one word among them; the last token, which is always the same, asks for it.

    Tokens 0 to ``words - 1`` are words, the next ``fillers`` are fillers, the one after them asks.

    Args:
        distances: From the asking token back to the word, both ends included; by default 1 to ``length - 1``.

    Example:
        >>> rows = relay_rows(np.random.default_rng(0), 1, length=8, distances=(5, 5))
        >>> rows.distance.tolist(), int(rows.inputs[0, 2]) == int(rows.target[0, 7])
        ([5], True)
    """
    low, high = distances or (1, length - 1)
    check_at_least("words", words, 2)
    check_at_least("fillers", fillers, 1)
    if not 1 <= low <= high <= length - 1:
        raise OptionError(f"distances {low} to {high} in {length} tokens", hint=f"1 to {length - 1}")
    inputs = rng.integers(words, words + fillers, (n, length))
    word, place = rng.integers(0, words, n), length - 1 - rng.integers(low, high + 1, n)
    inputs[:, -1] = words + fillers
    inputs[np.arange(n), place] = word
    target, source = np.full((n, length), NOTHING), np.full((n, length), NOTHING)
    target[:, -1], source[:, -1] = word, place
    return StreamRows(inputs=inputs, target=target, source=source)
