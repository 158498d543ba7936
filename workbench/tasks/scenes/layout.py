"""What stands where in many pictures at once: arrays drawn from one row of random numbers per picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from workbench.core.errors import OptionError
from workbench.tasks.scenes.shapes import INSIDE, PIXELS
from workbench.tasks.scenes.words import COLOURS, N_CELLS, SHAPES, SIZES

NUMBERS_DRAWN = 128
LEFT_OVER = 8  # numbers at the end of a row, for the ground and the window of a zoomed picture
PLANTED = {"star": "yellow", "cross": "purple"}
"""The colours that the planted prior gives these shapes."""


@dataclass(frozen=True, kw_only=True)
class World:
    """How pictures are drawn.

    Args:
        objects: Chances of one object, two objects, ... up to nine.
        alike: Chance that an object takes the colour of the first one (and, apart from it, its shape).
        prior: Chance that a star is made yellow and a cross purple.
        rings: Chance of a grey ring, which nobody mentions, in each free cell.
        noise: Standard deviation of the pixel noise; pixels run from 0 to 1.
        texture: Height of the waves on the ground.
        hue: Degrees by which the colours of all objects are turned.
        marked: A white frame around the cell of the first object.
        tiny: All objects are six pixels wide; nobody asks for their size.
        zoom: A window of 24 x 24 pixels around the first object is the whole picture.
    """

    objects: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    alike: float = 0.15
    prior: float = 0.0
    rings: float = 0.15
    noise: float = 0.04
    texture: float = 0.04
    hue: float = 0.0
    marked: bool = False
    tiny: bool = False
    zoom: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= N_CELLS or min(self.objects) < 0 or sum(self.objects) <= 0:
            raise OptionError(
                f"objects is {self.objects}; expected chances of 1, 2, ... up to {N_CELLS} objects",
                hint="objects=(0, 1) draws one or two objects with chances 0 and 1",
            )
        for name in ("alike", "prior", "rings"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(
                    f"{name} is {getattr(self, name)}; expected a chance from 0 to 1", hint=f"{name}=0.5"
                )
        if not -360 <= self.hue <= 360:
            raise OptionError(
                f"hue is {self.hue}; expected degrees from -360 to 360", hint="hue=0 (--task-option hue=0)"
            )
        for name in ("noise", "texture"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(
                    f"{name} is {getattr(self, name)}; pixels run from 0 to 1", hint=f"{name}=0.5"
                )


OBJECTS, HEIGHT = "number of objects", "height of waves"
LADDERS = {
    OBJECTS: {n + 1.0: World(objects=tuple(float(i == n) for i in range(4))) for n in range(4)},
    HEIGHT: {height: World(texture=height) for height in (0.0, 0.04, 0.08, 0.12, 0.16)},
}
"""Pictures from simple ones to complex ones, by what makes them so and by how much of it they have."""


@dataclass(frozen=True, kw_only=True)
class SceneLayout:
    """Many pictures as arrays; slots are the objects in the order they were drawn, the first is the one asked about.

    Args:
        n: Objects of each picture.
        cell: Cell of each slot, all nine different (picture, 9); slots from ``n`` on are free cells.
        shape, colour, size: Indices into the words (picture, 9); size 2 is tiny.
        down, right: Steps from the corner of the cell (picture, 9).
        bright: Factor of each slot's brightness (picture, 9).
        ring: Whether a ring stands in a slot from ``n`` on (picture, 9).
        mark: The slot with the frame, or with the window around it (picture,).
        arrow: Four times the cell of a white arrow, plus where it points; -1 for none (picture,).
        rest: Numbers for the ground and the window (picture, 8).
    """

    n: np.ndarray
    cell: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    down: np.ndarray
    right: np.ndarray
    bright: np.ndarray
    ring: np.ndarray
    mark: np.ndarray
    arrow: np.ndarray
    rest: np.ndarray

    def __len__(self) -> int:
        return len(self.n)

    def rows(self, chosen: Sequence[int] | slice) -> SceneLayout:
        """Return the pictures chosen."""
        return SceneLayout(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def with_value(self, name: str, slot: int, value: int) -> SceneLayout:
        """Return the same pictures with one slot's value changed."""
        changed = getattr(self, name).copy()
        changed[:, slot] = value
        return replace(self, **{name: changed})


def generator(seed: int, index: int) -> np.random.Generator:
    """Return the random numbers of one picture; they depend on nothing else."""
    return np.random.Generator(np.random.SFC64([seed, index]))


def lay_out(numbers: np.ndarray, world: World) -> SceneLayout:
    """Turn rows of random numbers from 0 to 1 (picture, 128) into what stands where.

    Returns:
        A `SceneLayout` of as many pictures.
    """
    count, order, *slots = np.split(numbers[:, :-LEFT_OVER], [1, 10, *range(19, 118, 9)], axis=1)[:13]
    shape_at, colour_at, size_at, down, right, bright, ring, same_colour, same_shape, planted = slots[:10]
    chances = np.cumsum(world.objects) / np.sum(world.objects)
    n = 1 + np.searchsorted(chances, count[:, 0], side="right").clip(max=len(world.objects) - 1)
    shape, colour = (shape_at * len(SHAPES)).astype(np.int8), (colour_at * len(COLOURS)).astype(np.int8)
    shape = np.where(same_shape < world.alike, shape[:, :1], shape)
    colour = np.where(same_colour < world.alike, colour[:, :1], colour)
    for of, to in PLANTED.items():
        colour[(shape == SHAPES.index(of)) & (planted < world.prior)] = COLOURS.index(to)
    size = np.full_like(shape, 2) if world.tiny else (size_at * len(SIZES)).astype(np.int8)
    room = INSIDE + 1 - np.array(PIXELS)[size]
    free = np.arange(N_CELLS)[None] >= n[:, None]
    return SceneLayout(
        n=n,
        cell=order.argsort(axis=1, kind="stable").astype(np.int8),
        shape=shape,
        colour=colour,
        size=size,
        down=(down * room).astype(np.int8),
        right=(right * room).astype(np.int8),
        bright=(0.92 + 0.16 * bright).astype(np.float32),
        ring=free & (ring < world.rings),
        mark=np.zeros_like(n),
        arrow=np.full_like(n, -1),
        rest=numbers[:, -LEFT_OVER:].astype(np.float32),
    )
