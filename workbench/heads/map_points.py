"""Points taken from a map, prompts for whoever outlines things: where it is high, and where it is not. Numpy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from workbench.core.errors import OptionError, ShapeError

THRESHOLD = 0.5


class MapPoints(NamedTuple):
    """Rows and columns of a map.

    Attributes:
        positive: Where something is, by the map.
        negative: Where it is not; none where the whole map is above the threshold.
    """

    positive: Int[np.ndarray, "point 2"]
    negative: Int[np.ndarray, "point 2"]


def points_of(
    map_: Float[np.ndarray, "row column"], n: int, *, seed: int, threshold: float = THRESHOLD
) -> MapPoints:
    """Draw points from a map: ``n`` where it has at least ``threshold`` of its largest value, ``n`` where it has less.

    Positive points are drawn in proportion to the map, negative ones evenly; a place may be drawn several times.

    Returns:
        Rows and columns of the map.

    Raises:
        OptionError: without points, or for a threshold that is not above 0 and up to 1.
        ShapeError: for a map that has nothing above 0, or something below.

    Source:
        VL-SAM 2024 (attention as prompts), as reconstructed from its abstract.

    Example:
        >>> found = points_of(np.array([[0.0, 0.9], [0.1, 0.0]]), 2, seed=0)
        >>> found.positive.tolist(), sorted(set(map(tuple, found.negative.tolist()))) <= [(0, 0), (1, 0), (1, 1)]
        ([[0, 1], [0, 1]], True)
    """
    map_ = np.asarray(map_, dtype=float)
    if n < 1 or not 0 < threshold <= 1:
        raise OptionError(f"{n} points above {threshold} of the largest value", hint="n=4, threshold=0.5")
    if not (np.isfinite(map_).all() and map_.min() >= 0 and map_.max() > 0):
        raise ShapeError(
            "the map has negative or non-finite values, or only zeros; expected values of at least 0, and one above 0",
            hint="give attention or its size: abs(map_), without NaN",
        )
    rng, high = np.random.default_rng(seed), map_ >= threshold * map_.max()
    places = np.argwhere(high)
    own = map_[high] / map_[high].sum()
    rest = np.argwhere(~high)
    return MapPoints(
        places[rng.choice(len(places), n, p=own)],
        rest[rng.integers(len(rest), size=n)] if len(rest) else rest,
    )
