"""Scanpaths: where a head or a decoder looks step by step, as a row of objects, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Float

from workbench.core.errors import OptionError

GROUND = -1
"""A fixation of a place that belongs to no object."""


def scanpath(
    weights: Float[np.ndarray, "step place"], owners: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return where the largest weight lies, step by step; steps that stay on one object are one fixation.

    Args:
        weights: A row for every step: a head's pattern from the queries of a generated text to patches, or what a
            decoder gives.
        owners: The object of every place, `GROUND` for none; by default each place is one.

    Example:
        >>> scanpath(np.array([[0.6, 0.4, 0.0], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]]), owners=[4, 4, 7])
        (4, 7)
    """
    places = np.asarray(weights).argmax(-1).tolist()
    objects = places if owners is None else [int(owners[place]) for place in places]
    return tuple(one for one, _ in groupby(objects))


def scanpath_distance(path: Sequence[int], reference: Sequence[int]) -> float:
    """Return by how many fixations two scanpaths differ, as a share of the longer one: 0 for equal ones, 1 at most.

    Fixations are added, left out or exchanged; a fixation of the ground equals none.

    Raises:
        OptionError: if both are empty.

    Example:
        >>> scanpath_distance((1, 2, 3), (1, 3))  # one fixation more, of three
        0.3333333333333333
    """
    if not path and not reference:
        raise OptionError("both scanpaths are empty", hint="give one fixation at least")
    before = list(range(len(reference) + 1))
    for i, here in enumerate(path, start=1):
        row = [i]
        for j, there in enumerate(reference, start=1):
            differs = here != there or here == GROUND
            row.append(min(row[-1] + 1, before[j] + 1, before[j - 1] + differs))
        before = row
    return before[-1] / max(len(path), len(reference))
