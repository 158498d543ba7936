"""Captions of the painter's world, and the pictures that they are true of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, islice
from typing import Literal

import numpy as np

from workbench.core.errors import OptionError
from workbench.tasks.canvas.words import (
    COLOURS,
    GROUND,
    HALF,
    NEVER_TRAINED,
    OBJECT,
    PALETTE,
    SHAPES,
    SIDE,
    SIDES,
    WORDS,
)

Kind = Literal["trained", "never trained", "any"]
FARTHEST = 0.4  # how near the object at the very top is; the ground is 0
_NUMBERS = 10  # random numbers behind each picture


@dataclass(frozen=True)
class Item:
    """One object of a caption: its colour, its shape, and the half of the picture that it stands in."""

    colour: str
    shape: str
    side: str

    @property
    def phrase(self) -> str:
        """The words of it, such as ``a red disc left``."""
        return f"a {self.colour} {self.shape} {self.side}"

    @property
    def words(self) -> tuple[int, ...]:
        """Numbers of its four words."""
        return tuple(WORDS.index(word) for word in self.phrase.split())


@dataclass(frozen=True)
class Drawing:
    """One drawn picture: what it shows, where, and its pixels.

    Args:
        items: The objects in the order of the caption.
        corners: Row and column of each object's first pixel.
    """

    items: tuple[Item, ...]
    corners: tuple[tuple[int, int], ...]

    @property
    def caption(self) -> str:
        """The caption in words."""
        return ", ".join(item.phrase for item in self.items)

    @property
    def masks(self) -> np.ndarray:
        """Which pixels each object covers: (object, 24, 24), booleans."""
        found = np.zeros((len(self.items), SIDE, SIDE), dtype=bool)
        for mask, item, (top, left) in zip(found, self.items, self.corners, strict=True):
            mask[top : top + OBJECT, left : left + OBJECT] = shape_masks()[SHAPES.index(item.shape)]
        return found

    @property
    def pixels(self) -> np.ndarray:
        """The picture (24, 24, 3), float32 between 0 and 1."""
        picture = np.broadcast_to(GROUND, (SIDE, SIDE, 3)).copy()
        for mask, item in zip(self.masks, self.items, strict=True):
            picture[mask] = PALETTE[COLOURS.index(item.colour)]
        return picture

    @property
    def depth(self) -> np.ndarray:
        """How near each pixel is, (24, 24), float32: 0 the ground, objects from .4 at the top to 1 at the bottom."""
        found = np.zeros((SIDE, SIDE), dtype=np.float32)
        for mask, (top, _) in zip(self.masks, self.corners, strict=True):
            found[mask] = nearness(top)
        return found


def nearness(top: float) -> float:
    """Return how near an object is whose first row is this one, as on a floor: .4 at the top, 1 at the bottom.

    Example:
        >>> nearness(0), nearness(15)
        (0.4, 1.0)
    """
    return FARTHEST + (1 - FARTHEST) * top / (SIDE - OBJECT)


@cache
def shape_masks() -> np.ndarray:
    """Return the shapes as squares of booleans: (shape, 9, 9)."""
    middle = OBJECT // 2
    y, x = np.mgrid[:OBJECT, :OBJECT]
    disc = (y - middle) ** 2 + (x - middle) ** 2 <= (middle + 0.4) ** 2
    square = np.ones((OBJECT, OBJECT), dtype=bool)
    triangle = abs(x - middle) <= y / 2 + 0.25
    return np.stack([disc, square, triangle])


def draw(seed: int, index: int, *, objects: int | None = None, kind: Kind = "trained") -> Drawing:
    """Draw the picture of this number.

    Args:
        objects: One or two; None for two in three of four pictures.
        kind: ``trained`` has no colour and shape of `NEVER_TRAINED`, in ``never trained`` the first object is one
            of these, ``any`` draws from all alike.

    Example:
        >>> draw(7, 1).caption
        'a yellow square right, a blue triangle left'
    """
    if objects not in (None, 1, 2):
        raise OptionError(
            f"objects is {objects}; a picture of this world has 1 or 2",
            hint="objects=1, objects=2, or leave it out",
        )
    numbers = np.random.Generator(np.random.Philox(key=[seed, index])).random(_NUMBERS)
    n = objects or (1 if numbers[0] < 0.25 else 2)
    first_side = int(numbers[1] < 0.5)
    items, corners = [], []
    for place in range(n):
        look, down, right = numbers[2 + 4 * place : 5 + 4 * place]
        side = first_side ^ place
        colour, shape = _pick(look, _looks(kind if place == 0 or kind == "any" else "trained"))
        items.append(Item(colour, shape, SIDES[side]))
        corners.append((int(down * (SIDE - OBJECT + 1)), side * HALF + int(right * (HALF - OBJECT + 1))))
    return Drawing(tuple(items), tuple(corners))


def draw_many(
    seed: int, indices: Iterable[int], *, objects: int | None = None, kind: Kind = "trained"
) -> list[Drawing]:
    """Draw the pictures of these numbers; each is the same alone and among others."""
    return [draw(seed, index, objects=objects, kind=kind) for index in indices]


def draw_unlike(
    seed: int, n: int, *, differing: Sequence[Literal["colour", "shape"]] = ("colour",)
) -> list[Drawing]:
    """Draw the first pictures of a seed whose two objects differ.

    Args:
        n: How many.
        differing: In what they differ; in all of these.

    Example:
        >>> [drawing.caption for drawing in draw_unlike(7, 1, differing=("colour", "shape"))]
        ['a yellow disc right, a blue square left']
    """
    drawn = (draw(seed, index, objects=2) for index in count())
    return list(islice((each for each in drawn if _differ(each.items, differing)), n))


def exchanged(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return two objects with their sides exchanged, in the same order.

    Example:
        >>> [item.phrase for item in exchanged(draw(7, 1).items)]
        ['a yellow square left', 'a blue triangle right']
    """
    sides = [item.side for item in items]
    return tuple(replace(item, side=side) for item, side in zip(items, reversed(sides), strict=True))


def changed(items: Sequence[Item], i: int) -> tuple[Item, ...]:
    """Return objects of which the first has another colour (even numbers) or another shape, a look that is trained.

    Args:
        i: Also says which of the other colours or shapes.

    Example:
        >>> [changed(draw(7, 1).items, i)[0].phrase for i in range(3)]
        ['a red square right', 'a yellow disc right', 'a blue square right']
    """
    first, *rest = items
    if i % 2 == 0:
        other = [x for x in COLOURS if x != first.colour and (x, first.shape) not in NEVER_TRAINED]
        return (replace(first, colour=other[i // 2 % len(other)]), *rest)
    kinds = [x for x in SHAPES if x != first.shape and (first.colour, x) not in NEVER_TRAINED]
    return (replace(first, shape=kinds[i // 2 % len(kinds)]), *rest)


def _differ(items: Sequence[Item], differing: Sequence[str]) -> bool:
    first, second = items
    return all(getattr(first, what) != getattr(second, what) for what in differing)


@cache
def _looks(kind: Kind) -> tuple[tuple[str, str], ...]:
    every = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
    if kind == "any":
        return every
    return NEVER_TRAINED if kind == "never trained" else tuple(x for x in every if x not in NEVER_TRAINED)


def _pick(number: float, choices: Sequence[tuple[str, str]]) -> tuple[str, str]:
    return choices[int(number * len(choices))]
