"""Masks of the shapes inside a cell, for every size and every place they may stand at."""

from __future__ import annotations

from functools import cache

import numpy as np

from workbench.tasks.scenes.words import CELL, SHAPES

PIXELS = (8, 12, 6)
"""Sides in pixels: small, large, and the tiny size that only some pictures have."""

RING, FRAME = len(SHAPES), len(SHAPES) + 1
DIRECTIONS = ("right", "up", "left", "down")
INSIDE = CELL - 2  # a cell's border stays free, for the frame of a marked object
ROOM = INSIDE - min(PIXELS) + 1  # steps that the smallest shape can move along one side


def shape_mask(shape: int, side: int) -> np.ndarray:
    """Return one shape as a square of booleans, ``side`` pixels wide.

    Args:
        shape: Index into `SHAPES`, or `RING`.
    """
    across = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = np.meshgrid(across, across, indexing="ij")
    radius = np.hypot(y, x)
    return {
        0: radius <= 1.0,
        1: np.maximum(abs(x), abs(y)) <= 0.9,
        2: abs(x) <= (y + 1) / 2 + 0.5 / side,
        3: np.sqrt(abs(x)) + np.sqrt(abs(y)) <= 1.25,
        4: abs(abs(x) - abs(y)) <= 0.36,
        RING: (radius <= 1.0) & (radius >= 0.6),
    }[shape]


@cache
def templates() -> np.ndarray:
    """Return masks of everything that can stand in a cell: (kind, size, row step, column step, 16, 16), uint8.

    Kinds are the shapes, the ring and the frame. A step that a size has no room for repeats its last one.
    """
    table = np.zeros((len(SHAPES) + 2, len(PIXELS), ROOM, ROOM, CELL, CELL), dtype=np.uint8)
    for kind in range(len(SHAPES) + 1):
        for size, side in enumerate(PIXELS):
            mask = shape_mask(kind, side)
            for down in range(ROOM):
                for right in range(ROOM):
                    top, left = 1 + min(down, INSIDE - side), 1 + min(right, INSIDE - side)
                    table[kind, size, down, right, top : top + side, left : left + side] = mask
    table[FRAME, ..., [0, -1], :] = 1
    table[FRAME, ..., :, [0, -1]] = 1
    return table


@cache
def arrow_masks() -> np.ndarray:
    """Return arrows in a cell, one for each of `DIRECTIONS`: (direction, 16, 16), booleans."""
    across = (np.arange(12) + 0.5) / 6 - 1
    y, x = np.meshgrid(across, across, indexing="ij")
    arrow = ((abs(y) <= 0.2) & (x <= 0.1)) | ((x >= 0.0) & (abs(y) <= 0.9 * (1 - x)))
    cell = np.zeros((CELL, CELL), dtype=bool)
    cell[2:14, 2:14] = arrow
    return np.stack([np.rot90(cell, turns) for turns in range(len(DIRECTIONS))])
