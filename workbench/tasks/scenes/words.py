"""The words of the drawn world, and the colours that are meant by them."""

from __future__ import annotations

import numpy as np

SHAPES = ("disc", "square", "triangle", "star", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SIZES = ("small", "large")
PLACES = ("northwest", "north", "northeast", "west", "centre", "east", "southwest", "south", "southeast")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
YES_NO = ("yes", "no")

PALETTE = np.array(
    [
        (0.85, 0.15, 0.15),
        (0.15, 0.70, 0.20),
        (0.15, 0.30, 0.90),
        (0.90, 0.85, 0.15),
        (0.60, 0.20, 0.75),
        (0.15, 0.80, 0.85),
    ],
    dtype=np.float32,
)

SIDE = 48  # pixels of a picture's side
CELL = 16  # pixels of a cell's side; a picture has 3 x 3 cells
PATCH = 8  # pixels of a patch's side; a cell has 2 x 2 patches
GRID = SIDE // CELL
N_CELLS = GRID * GRID
N_PATCHES = (SIDE // PATCH) ** 2
SEEN = 0.125
"""A patch shows an object that covers at least this share of it."""
