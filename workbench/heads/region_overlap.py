"""How well a mask or a heat map fits a region: overlap by Dice, and the area under the ROC curve of a map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import ShapeError
from workbench.core.stats.association import auroc


def dice(
    said: Bool[np.ndarray, "item place"], truth: Bool[np.ndarray, "item place"]
) -> Float[np.ndarray, " item"]:
    """Return twice the overlap of two masks by the sum of their sizes: 1 for equal masks, 0 for apart ones.

    Two empty masks are equal.

    Raises:
        ShapeError: for masks of different shapes.

    Example:
        >>> masks = np.array([[True, True, False, False]]), np.array([[True, False, True, True]])
        >>> float(dice(*masks)[0])  # one place of both, two and three places
        0.4
    """
    if said.shape != truth.shape:
        raise ShapeError(
            f"masks are {said.shape} and {truth.shape}; one shape is expected",
            hint="flatten both to (item, place)",
        )
    both, sizes = (said & truth).sum(-1), said.sum(-1) + truth.sum(-1)
    return np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)


def map_areas(
    maps: Float[np.ndarray, "item place"], truth: Bool[np.ndarray, "item place"]
) -> Float[np.ndarray, " item"]:
    """Return how often a place of the region has more weight than one outside, for each map: AUROC over places.

    Returns:
        0 to 1, 0.5 by chance; NaN where a region is empty or everything.

    Example:
        >>> float(map_areas(np.array([[0.5, 0.3, 0.1, 0.1]]), np.array([[True, False, True, False]]))[0])
        0.625
    """
    return np.array([auroc(one, inside) for one, inside in zip(maps, truth, strict=True)])
