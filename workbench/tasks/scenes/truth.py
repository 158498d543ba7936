"""One drawn picture with its whole truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from workbench.core.errors import OptionError, unknown
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import ARROW, coverage, lay_out_many, noise_of, owner_map, paint
from workbench.tasks.scenes.shapes import DIRECTIONS
from workbench.tasks.scenes.words import COLOURS, N_CELLS, PATCH, PLACES, SEEN, SHAPES, SIDE, SIZES

USUAL = World()
ARROWS = tuple(f"{place}-{direction}" for place in PLACES for direction in DIRECTIONS)
FIELDS = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "cell": PLACES,
    "marked": ("no", "yes"),
    "arrow": ARROWS,
}
"""What of an object can be changed, and its words."""


@dataclass(frozen=True)
class Thing:
    """One object of a picture.

    Args:
        slot: Its number in the order of drawing; 0 is the one asked about, or marked.
        cell: 0 to 8, row by row from the top left.
    """

    slot: int
    shape: str
    colour: str
    size: str
    cell: int

    @property
    def place(self) -> str:
        """The word for its cell."""
        return PLACES[self.cell]

    @property
    def phrase(self) -> str:
        """Size, colour and shape."""
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class SceneChange:
    """One value of one object that differs from what was drawn; ``slot`` -1 takes every object away."""

    slot: int
    field: str
    value: str


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture of the drawn world; pixels, masks and words follow from seed, number, world and changes.

    Example:
        >>> from workbench.tasks.scenes import draw
        >>> scene = draw(7, 12)
        >>> scene.pixels.shape, scene.description
        ((48, 48, 3), 'large yellow square .')
    """

    seed: int
    index: int
    world: World = USUAL
    changes: tuple[SceneChange, ...] = ()

    @cached_property
    def layout(self) -> SceneLayout:
        """What stands where, as arrays of one picture."""
        layout = lay_out_many(self.seed, [self.index], self.world)
        for change in self.changes:
            layout = _changed(layout, change)
        return layout

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        """The objects in reading order."""
        return things_of(self.layout, 0)

    @property
    def asked(self) -> Thing:
        """The object with the frame, the one that a window is around; the first one unless that was changed."""
        return next(thing for thing in self.things if thing.slot == self.layout.mark[0])

    @cached_property
    def pixels(self) -> UInt8[np.ndarray, "48 48 3"]:
        """The picture."""
        return paint(self.layout, noise_of(self.seed, [self.index]), self.world)[0]

    @cached_property
    def owner(self) -> np.ndarray:
        """Which slot every pixel belongs to (48, 48): 9 for a ring, 10 for an arrow, -1 for the ground."""
        return owner_map(self.layout, self.world)[0]

    @property
    def masks(self) -> Bool[np.ndarray, "thing 48 48"]:
        """The pixels of every object, in reading order; no pixel belongs to two."""
        return np.array([self.owner == thing.slot for thing in self.things], dtype=bool).reshape(
            -1, SIDE, SIDE
        )

    @property
    def rings(self) -> Bool[np.ndarray, "48 48"]:
        """The pixels of the grey rings."""
        return self.owner == N_CELLS

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Top, left, bottom and right of every object in pixels, half open, in reading order."""
        return tuple(box_of(mask) for mask in self.masks)

    @cached_property
    def coverage(self) -> Float32[np.ndarray, "patch 9"]:
        """Share of every patch that every slot covers."""
        return coverage(self.owner[None])[0]

    def patches(self, slot: int) -> tuple[int, ...]:
        """List the patches of which an object covers at least an eighth; 9 are the rings, 10 is an arrow."""
        share = (self.owner == slot).reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH).mean(axis=(1, 3))
        return tuple(np.flatnonzero(share.flatten() >= SEEN).tolist())

    @property
    def edges(self) -> tuple[int, ...]:
        """The patches that objects or rings touch without any of them covering an eighth."""
        drawn = (
            (self.owner >= 0).reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH).any(axis=(1, 3)).flatten()
        )
        seen = {patch for slot in range(ARROW + 1) for patch in self.patches(slot)}
        return tuple(patch for patch in np.flatnonzero(drawn).tolist() if patch not in seen)

    @property
    def description(self) -> str:
        """All objects in reading order, as the models are taught to say it."""
        return " , ".join(thing.phrase for thing in self.things) + " ."

    @property
    def caption(self) -> str:
        """All objects in the order of drawing; where the first two are neighbours, how they stand."""
        things = sorted(self.things, key=lambda thing: thing.slot)
        return caption_of(things)

    @property
    def text(self) -> str:
        """What stands after ``scene:`` in the source of the picture, ``7/12?noise=0.12&0.colour=red``."""
        names = [field.name for field in fields(World)]
        values = {name: getattr(self.world, name) for name in names}
        said = [f"{name}={_said(value)}" for name, value in values.items() if value != getattr(USUAL, name)]
        said += [f"{c.slot}.{c.field}={c.value}" if c.slot >= 0 else "blank=1" for c in self.changes]
        return f"{self.seed}/{self.index}" + (f"?{'&'.join(said)}" if said else "")

    def changed(self, slot: int, **values: str) -> Scene:
        """Return the same picture, noise included, with an object of another shape, colour, size or cell.

        Raises:
            OptionError: if there is no such object, field or word, or the cell is taken.
        """
        taken = {thing.cell for thing in self.things if thing.slot != slot}
        for field, value in values.items():
            if field not in FIELDS:
                raise unknown("field of an object", field, FIELDS, error=OptionError)
            if value not in FIELDS[field]:
                raise unknown(field, value, FIELDS[field], error=OptionError)
            if field == "cell" and PLACES.index(value) in taken:
                raise OptionError(f"cell {value} holds another object", hint="name a free cell")
        if slot not in {thing.slot for thing in self.things}:
            raise OptionError(
                f"there is no object {slot}; the picture has {len(self.things)}",
                hint=f"slots: {', '.join(str(thing.slot) for thing in self.things)}",
            )
        new = tuple(SceneChange(slot, field, value) for field, value in values.items())
        return replace(self, changes=(*self.changes, *new))

    def through_window(self) -> Scene:
        """Return the part around the asked object as the whole picture, twice as large; the noise stays."""
        return replace(self, world=replace(self.world, zoom=True))

    def blank(self) -> Scene:
        """Return the same ground and noise with nothing on it."""
        return replace(self, changes=(*self.changes, SceneChange(-1, "blank", "1")))

    def __repr__(self) -> str:
        return f"Scene(scene:{self.text}: {self.description})"


def things_of(layout: SceneLayout, picture: int) -> tuple[Thing, ...]:
    """List the objects of one picture of many, in reading order."""
    made = [
        Thing(
            slot,
            SHAPES[layout.shape[picture, slot]],
            COLOURS[layout.colour[picture, slot]],
            SIZES[layout.size[picture, slot] % 2],
            int(layout.cell[picture, slot]),
        )
        for slot in range(int(layout.n[picture]))
    ]
    return tuple(sorted(made, key=lambda thing: thing.cell))


def caption_of(things: list[Thing]) -> str:
    """Return the objects joined by *and*, the first two by a relation if they are next to each other."""
    words = ["and"] * (len(things) - 1)
    if len(things) > 1 and (relation := relation_of(things[0], things[1])):
        words[0] = relation
    parts = [things[0].phrase] if things else ["nothing"]
    for word, thing in zip(words, things[1:], strict=True):
        parts += [word, thing.phrase]
    return " ".join(parts)


def relation_of(one: Thing, other: Thing) -> str:
    """Say how one object stands to a neighbour; empty if they do not share a side of their cells."""
    down = other.cell // 3 - one.cell // 3
    right = other.cell % 3 - one.cell % 3
    names = {(0, 1): "left of", (0, -1): "right of", (1, 0): "above", (-1, 0): "below"}
    return names.get((down, right), "")


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the smallest box around a mask: top, left, bottom, right; zeros for an empty mask."""
    if not mask.any():
        return (0, 0, 0, 0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _changed(layout: SceneLayout, change: SceneChange) -> SceneLayout:
    if change.slot < 0:
        return replace(layout, n=np.zeros_like(layout.n), ring=np.zeros_like(layout.ring))
    value = FIELDS[change.field].index(change.value)
    if change.field == "arrow":
        return replace(layout, arrow=np.full_like(layout.arrow, value))
    if change.field == "marked":
        return replace(layout, mark=np.full_like(layout.mark, change.slot)) if value else layout
    if change.field != "cell":
        return layout.with_value(change.field, change.slot, value)
    [other] = np.flatnonzero(layout.cell[0] == value)  # whatever stood there changes place with it
    before = int(layout.cell[0, change.slot])
    return layout.with_value("cell", int(other), before).with_value("cell", change.slot, value)


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{number:.12g}" for number in value)
    return str(int(value)) if isinstance(value, bool) else f"{value:.12g}"


def scenes(seed: int, world: World, start: int = 0) -> Iterator[Scene]:
    """Return pictures of a world without end."""
    while True:
        yield Scene(seed, start, world)
        start += 1
