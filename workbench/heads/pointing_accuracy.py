"""Pointing: does a point, or the largest value of a map, lie in the box of what is meant?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.core.errors import ShapeError


def points_in_boxes(
    points: Float[np.ndarray, "item 2"], boxes: Float[np.ndarray, "item 4"]
) -> Float[np.ndarray, " item"]:
    """Return 1 for every point in its box, edges included, else 0; a point that is NaN is in none.

    Args:
        points: Row and column.
        boxes: Top, left, bottom and right, in the same unit.

    Example:
        >>> boxes = np.array([[0.0, 0.0, 2.0, 2.0]] * 3)
        >>> points_in_boxes(np.array([[1.0, 2.0], [1.0, 2.5], [np.nan, 1.0]]), boxes).tolist()
        [1.0, 0.0, 0.0]
    """
    if len(points) != len(boxes):
        raise ShapeError(
            f"{len(points)} points for {len(boxes)} boxes; one for each is expected",
            hint="pair points with boxes",
        )
    return ((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(1).astype(float)


def pointing_accuracy(
    maps: Float[np.ndarray, "item row column"], boxes: Float[np.ndarray, "item 4"]
) -> Float[np.ndarray, " item"]:
    """Return 1 for every map whose largest value is in its box, else 0: of attention, or of any other map.

    Args:
        boxes: Top, left, bottom and right in patches; fractions are allowed. The middle of the patch counts.

    Example:
        >>> maps = np.array([[[0.1, 0.9], [0.0, 0.0]]])
        >>> float(pointing_accuracy(maps, np.array([[0.0, 1.0, 1.0, 2.0]]))[0])
        1.0
    """
    best, columns = maps.reshape(len(maps), -1).argmax(1), maps.shape[2]
    return points_in_boxes(np.stack([best // columns, best % columns], axis=1) + 0.5, boxes)
