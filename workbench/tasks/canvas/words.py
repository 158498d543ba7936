"""The words of the painter's small world, and what they mean in pixels."""

from __future__ import annotations

import numpy as np

SIDE = 24  # pixels of a picture's side
PATCH = 3  # pixels of a patch's side
GRID = SIDE // PATCH
OBJECT = 9  # pixels of an object's side
HALF = SIDE // 2

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("disc", "square", "triangle")
SIDES = ("left", "right")
ARTICLE, NOTHING = "a", "-"
"""The word before each object, and what stands in a slot without a word."""

WORDS = (NOTHING, ARTICLE, *COLOURS, *SHAPES, *SIDES)
ROLES = ("article", "colour", "shape", "side")
OBJECTS = ("first", "second")
SLOTS = tuple(f"{name} {role}" for name in OBJECTS for role in ROLES)
"""A caption has eight slots: four words for each object."""

PALETTE = np.array(
    [
        (0.95, 0.10, 0.10),
        (0.10, 0.80, 0.15),
        (0.15, 0.25, 0.95),
        (0.95, 0.90, 0.10),
        (0.70, 0.10, 0.80),
        (0.10, 0.85, 0.90),
    ],
    dtype=np.float32,
)
GROUND = np.zeros(3, dtype=np.float32)

NEVER_TRAINED = (("red", "triangle"), ("green", "square"), ("blue", "disc"))
"""Colour and shape that no picture of training has together; each colour and each shape is trained with others."""
