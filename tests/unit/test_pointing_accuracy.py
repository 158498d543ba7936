"""Pointing by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import ShapeError
from workbench.heads.pointing_accuracy import pointing_accuracy, points_in_boxes


def test_points_lie_in_their_boxes_edges_included():
    boxes = np.array([[0.0, 0.0, 1.0, 2.0], [2.0, 2.0, 3.0, 3.0]])
    assert points_in_boxes(np.array([[1.0, 0.5], [2.5, 1.9]]), boxes).tolist() == [1, 0]
    assert points_in_boxes(np.array([[np.nan, 0.5], [2.0, 3.0]]), boxes).tolist() == [0, 1]


def test_the_middle_of_the_largest_patch_counts():
    boxes = np.array([[0.0, 0.0, 1.0, 2.0], [2.0, 2.0, 3.0, 3.0]])
    maps = np.zeros((2, 3, 3))
    maps[0, 0, 1] = maps[1, 1, 1] = 1  # middles (0.5, 1.5) and (1.5, 1.5)
    assert pointing_accuracy(maps, boxes).tolist() == [1, 0]
    assert pointing_accuracy(maps[:1] * 7, boxes[:1]).tolist() == [1]


@pytest.mark.usefixtures("unchecked")
def test_every_point_has_a_box():
    with pytest.raises(ShapeError, match="one for each"):
        points_in_boxes(np.zeros((3, 2)), np.zeros((2, 4)))
