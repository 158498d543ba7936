"""Agreement of a chosen focus with a map: how much of the map lies in the region that was chosen."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import ShapeError
from workbench.heads.localisation import lift_inside


def focus_agreement(
    maps: Float[np.ndarray, "item row column"], focus: Bool[np.ndarray, "item row column"]
) -> Float[np.ndarray, " item"]:
    """Return the mean weight of a patch of the chosen region, in units of an even map.

    Args:
        maps: At least 0, such as the attention of a model to the patches of its picture.
        focus: The patches of the region that was chosen for each.

    Returns:
        1 where the region gets no more than its size, above where map and choice agree.

    Raises:
        ShapeError: for regions of another grid, or a region without a patch.

    Example:
        >>> maps = np.array([[[0.7, 0.1], [0.1, 0.1]]])
        >>> float(focus_agreement(maps, np.array([[[True, False], [False, False]]]))[0].round(6))
        2.8
    """
    if maps.shape != focus.shape:
        raise ShapeError(
            f"maps are {maps.shape}, regions {focus.shape}; one shape is expected",
            hint="regions on the maps' grid",
        )
    if not focus.any((1, 2)).all():
        raise ShapeError("a region has no patch", hint="choose a region of at least one patch for every item")
    return np.asarray(lift_inside(maps, focus))
