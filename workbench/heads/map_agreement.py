"""How well a map agrees with a map of importance: their correlation over patches."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.core.errors import ShapeError


def map_agreement(
    maps: Float[np.ndarray, "*batch patch"], importance: Float[np.ndarray, "*batch patch"]
) -> Float[np.ndarray, "*batch"]:
    """Correlate each map with a map of importance, over patches (Pearson).

    Args:
        maps: Such as where a head looks.
        importance: Such as a heat map of the subject, or where people look.

    Returns:
        -1 to 1; NaN where one of the two is the same everywhere.

    Raises:
        ShapeError: if the two are not of one shape.

    Source:
        FocusCLIP, 2024; the abstract alone was read.

    Example:
        >>> map_agreement(np.array([[0.1, 0.2, 0.7]]), np.array([[0.0, 1.0, 6.0]])).round(6).tolist()
        [1.0]
    """
    maps, importance = np.asarray(maps, dtype=float), np.asarray(importance, dtype=float)
    if maps.shape != importance.shape:
        raise ShapeError(
            f"maps of {maps.shape} are compared with maps of {importance.shape}",
            hint="flatten rows and columns of both, and give one map of importance for each map",
        )
    one, other = (each - each.mean(-1, keepdims=True) for each in (maps, importance))
    scale = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 1e-12, (one * other).sum(-1) / scale, np.nan)
