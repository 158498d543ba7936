"""Segments of a sequence: the one that stands out most in scores, and how far two of them overlap."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.core.errors import OptionError


def best_segment(scores: Float[np.ndarray, " frame"]) -> tuple[int, int]:
    """Return the run of frames with the largest sum, as its first frame and the first one behind it.

    Of equal runs it is the one that ends first; where no score is above 0, the largest frame alone.

    Example:
        >>> best_segment(np.array([-1.0, 2.0, -0.5, 3.0, -4.0, 1.0]))
        (1, 4)
    """
    if not len(scores):
        raise OptionError("a sequence without frames has no segment", hint="give one score at least")
    best, found, total, start = -np.inf, (0, 1), 0.0, 0
    for i, score in enumerate(scores.tolist()):
        if total <= 0:
            total, start = 0.0, i
        total += score
        if total > best:
            best, found = total, (start, i + 1)
    return found


def segment_overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Return the frames of both segments by the frames of either: 1 for the same, 0 for apart ones.

    Example:
        >>> segment_overlap((1, 4), (2, 6))  # frames 2 and 3, of 1 to 5
        0.4
    """
    both = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return both / (one[1] - one[0] + other[1] - other[0] - both)
