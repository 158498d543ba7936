"""Cue sentences: a cue at the start says which of several words is asked for at the end."""

from __future__ import annotations

import numpy as np

from workbench.core.errors import OptionError
from workbench.tasks.streams.rows import NOTHING, StreamRows, check_at_least


def cue_rows(
    rng: np.random.Generator, n: int, *, length: int = 16, words: int = 16, fillers: int = 8, cues: int = 2
) -> StreamRows:
    """Draw rows ``cue ... word ... word ... ask``: cue ``i`` asks for the ``i``-th of ``cues`` words, fillers between.

    Tokens 0 to ``words - 1`` are words, then fillers, then the cues, then the token that asks.

    Example:
        >>> rows = cue_rows(np.random.default_rng(0), 1, length=6, words=4, fillers=2, cues=2)
        >>> at = [int(i) for i in np.flatnonzero(rows.inputs[0] < 4)]
        >>> len(at), at[rows.inputs[0, 0] - 6] == int(rows.source[0, -1])
        (2, True)
    """
    check_at_least("words", words, 2)
    check_at_least("fillers", fillers, 1)
    if not 1 <= cues <= length - 2:
        raise OptionError(
            f"{cues} words between a cue and a question do not fit into {length} tokens; expected 1 to {length - 2}",
            hint=f"cues={max(length - 2, 1)}, or a longer length",
        )
    inputs = rng.integers(words, words + fillers, (n, length))
    places = np.sort(rng.permuted(np.tile(np.arange(1, length - 1), (n, 1)), axis=1)[:, :cues], axis=1)
    said, cue = rng.integers(0, words, (n, cues)), rng.integers(0, cues, n)
    np.put_along_axis(inputs, places, said, 1)
    inputs[:, 0], inputs[:, -1] = words + fillers + cue, words + fillers + cues
    target, source = np.full((n, length), NOTHING), np.full((n, length), NOTHING)
    target[:, -1], source[:, -1] = said[np.arange(n), cue], places[np.arange(n), cue]
    return StreamRows(inputs=inputs, target=target, source=source)
