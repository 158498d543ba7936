"""The exact reader of the painter's pictures: nearest colour, connected components, best template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from workbench.core.errors import TaskError
from workbench.tasks.canvas.flat_shapes import Item, shape_masks
from workbench.tasks.canvas.words import COLOURS, GROUND, HALF, OBJECT, PALETTE, SHAPES, SIDE, SIDES

SPECK = 9  # a component of fewer pixels is dirt, not an object; the smallest shape has 41
WHOLE = 0.75  # from this overlap with its best template on, an object is intact


@dataclass(frozen=True, kw_only=True)
class Read:
    """One object that was read off a picture.

    Args:
        overlap: Intersection over union with the best template, 1 for a drawn object.
        row, column: Middle of the template in pixels.
    """

    colour: str
    shape: str
    row: float
    column: float
    overlap: float

    @property
    def side(self) -> str:
        """The half of the picture that its middle is in."""
        return SIDES[int(self.column >= HALF - 0.5)]

    @property
    def intact(self) -> bool:
        """Whether it has the form of one shape of this world."""
        return self.overlap >= WHOLE

    @property
    def item(self) -> Item:
        """What a caption would say of it."""
        return Item(self.colour, self.shape, self.side)


@dataclass(frozen=True, kw_only=True)
class PictureVerdict:
    """What is right in one picture, asked for what its caption says.

    Args:
        colour: The objects have exactly the colours that are asked for.
        side: Every half has as many objects as are asked for there.
        shape: The objects have exactly the shapes that are asked for.
        count: There are as many objects as are asked for.
        binding: Every object has its own colour, its own shape and its own side, and there is no other.
        intact: Every object has the form of a shape of this world, and there is one.
    """

    colour: bool
    side: bool
    shape: bool
    count: bool
    binding: bool
    intact: bool


def read_picture(pixels: np.ndarray) -> tuple[Read, ...]:
    """Read the objects of a picture, from left to right.

    Args:
        pixels: (24, 24, 3), black 0 and white 1; values outside are allowed.

    Raises:
        TaskError: if the picture has another size.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw
        >>> [each.item.phrase for each in read_picture(draw(7, 1).pixels)]
        ['a blue triangle left', 'a yellow square right']
    """
    if pixels.shape != (SIDE, SIDE, 3):
        raise TaskError(
            f"a picture of shape {pixels.shape}; the reader reads ({SIDE}, {SIDE}, 3)",
            hint="give the pixels of one picture: draw(7, 1).pixels",
        )
    inks = np.concatenate([GROUND[None], PALETTE])
    nearest = ((pixels[:, :, None] - inks) ** 2).sum(-1).argmin(-1)  # (24, 24); 0 is the ground
    found = []
    for colour, name in enumerate(COLOURS, start=1):
        parts = components(nearest == colour)
        found += [_best(mask, name) for mask in parts if mask.sum() >= SPECK]
    return tuple(sorted(found, key=lambda each: (each.column, each.row, each.colour)))


def judge(seen: Sequence[Read], asked: Sequence[Item]) -> PictureVerdict:
    """Compare what a picture shows with what its caption asks for.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw
        >>> judge(read_picture(draw(7, 1).pixels), draw(7, 1).items).binding
        True
    """

    def same(attribute: str) -> bool:
        return sorted(getattr(x, attribute) for x in seen) == sorted(getattr(x, attribute) for x in asked)

    wanted = sorted(item.phrase for item in asked)
    return PictureVerdict(
        colour=same("colour"),
        side=same("side"),
        shape=same("shape"),
        count=len(seen) == len(asked),
        binding=sorted(each.item.phrase for each in seen) == wanted,
        intact=bool(seen) and all(each.intact for each in seen),
    )


def leaks(seen: Sequence[Read], asked: Sequence[Item]) -> float | None:
    """Say in which share of the two halves an object has the colour that was asked for in the other half.

    Returns:
        0, 0.5 or 1; None where there are not two objects of different colours.

    Example:
        >>> from workbench.tasks.canvas.captions import read_caption
        >>> asked = read_caption("a red disc left, a blue square right")
        >>> red = Read(colour="red", shape="square", row=4.0, column=17.0, overlap=1.0)
        >>> leaks([red], asked)
        0.5
    """
    if len(asked) != 2 or asked[0].colour == asked[1].colour:
        return None
    wrong = {(asked[0].side, asked[1].colour), (asked[1].side, asked[0].colour)}
    return len(wrong & {(each.side, each.colour) for each in seen}) / 2


def own_colours(seen: Sequence[Read], asked: Sequence[Item]) -> float:
    """Say in which share of the objects that are asked for something of their colour is in their half.

    Example:
        >>> from workbench.tasks.canvas.captions import read_caption
        >>> red = Read(colour="red", shape="square", row=4.0, column=4.0, overlap=1.0)
        >>> own_colours([red], read_caption("a red disc left, a blue square right"))
        0.5
    """
    there = {(each.side, each.colour) for each in seen}
    return sum((item.side, item.colour) in there for item in asked) / len(asked)


def at_place(seen: Sequence[Read], item: Item, corner: tuple[int, int], *, near: float = 1.5) -> bool:
    """Say whether an object is there once, known by its colour and half, and stands where it was asked for.

    Args:
        corner: Top and left of its place, in pixels.
        near: How many pixels it may be off, up or down and to either side.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw
        >>> first, seen = draw(7, 1), read_picture(draw(7, 1).pixels)
        >>> at_place(seen, first.items[0], first.corners[0]), at_place(seen, first.items[0], (0, 0))
        (True, False)
    """
    own = [each for each in seen if (each.colour, each.side) == (item.colour, item.side)]
    if len(own) != 1:
        return False
    middle = (OBJECT - 1) / 2
    return max(abs(own[0].row - middle - corner[0]), abs(own[0].column - middle - corner[1])) <= near


def components(mask: np.ndarray) -> list[np.ndarray]:
    """Cut a mask into its connected parts: pixels that touch at a side.

    Returns:
        One mask for each part, in the order of their last pixels.

    Example:
        >>> [part.sum() for part in components(np.array([[1, 0], [1, 1]], dtype=bool))]
        [np.int64(3)]
    """
    if not mask.any():
        return []
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(label, 1)
        near = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        grown = np.where(mask, np.max(near, axis=0), 0)
        if (grown == label).all():
            return [label == number for number in np.unique(label[mask])]
        label = grown


@cache
def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Every shape at every place: (shape x row x column, 576), and the number of its pixels."""
    room = SIDE - OBJECT + 1
    table = np.zeros((len(SHAPES), room, room, SIDE, SIDE), dtype=np.float32)
    for shape, mask in enumerate(shape_masks()):
        for top in range(room):
            for left in range(room):
                table[shape, top, left, top : top + OBJECT, left : left + OBJECT] = mask
    flat = table.reshape(-1, SIDE * SIDE)
    return flat, flat.sum(1)


def _best(mask: np.ndarray, colour: str) -> Read:
    """The template that overlaps a component most."""
    table, sizes = _templates()
    both = table @ mask.reshape(-1).astype(np.float32)
    overlap = both / (sizes + mask.sum() - both)
    best = int(overlap.argmax())
    room = SIDE - OBJECT + 1
    shape, top, left = np.unravel_index(best, (len(SHAPES), room, room))
    middle = (OBJECT - 1) / 2
    return Read(
        colour=colour,
        shape=SHAPES[shape],
        row=float(top + middle),
        column=float(left + middle),
        overlap=float(overlap[best]),
    )
