"""T10, T12 and T13: a reference and the scene that holds it, short clips of an action, and a panorama of twelve views.

Each is more than one picture, so it is no pair of one prompt; every picture has its truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workbench.tasks.draw import Draw
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import lay_out_many, noise_of, owner_map, paint
from workbench.tasks.scenes.partners import TRIES, changes, scene_in
from workbench.tasks.scenes.truth import Scene, Thing, things_of
from workbench.tasks.scenes.words import GRID, N_CELLS, PLACES, SIDE, SIZES

ACTIONS = ("moves right", "moves left", "moves up", "moves down", "grows", "shrinks", "turns colour", "stays")
HEADINGS = 12
_STEPS = {"moves right": (0, 1), "moves left": (0, -1), "moves up": (-1, 0), "moves down": (1, 0)}


@dataclass(frozen=True)
class SceneReference:
    """T10: an object alone in the middle, a scene that holds an equal one, and the slot of it there."""

    reference: Scene
    scene: Scene
    slot: int


def reference(seed: int, index: int, split: str = "test") -> SceneReference:
    """Return a reference of which its scene holds exactly one: shape, colour and size are the same.

    Example:
        >>> found = reference(0, 0)
        >>> found.reference.asked.phrase == found.scene.things[0].phrase or len(found.scene.things) > 1
        True
    """
    draw = Draw(f"reference|{split}|{seed}|{index}")
    while True:
        scene = scene_in(draw, split, World(objects=(0, 1, 1, 1)))
        thing = scene.asked
        if [other.phrase for other in scene.things].count(thing.phrase) == 1:
            break
    alone = scene_in(draw, split, World(objects=(1,), rings=0.0))
    alone = alone.changed(0, shape=thing.shape, colour=thing.colour, size=thing.size, cell="centre")
    return SceneReference(alone, scene, thing.slot)


@dataclass(frozen=True)
class SceneClip:
    """T12: pictures in order, what happens in them, and the slot of the object that does it."""

    frames: tuple[Scene, ...]
    action: str
    slot: int

    @property
    def pixels(self) -> np.ndarray:
        """All pictures (frame, 48, 48, 3)."""
        return np.stack([frame.pixels for frame in self.frames])


def clip(seed: int, index: int, split: str = "test") -> SceneClip:
    """Return three pictures in which one object does one thing; all actions come equally often, the noise is the same.

    A move takes one cell a picture, the other actions happen in one of the two steps.

    Example:
        >>> len(clip(0, 0).frames)
        3
    """
    draw = Draw(f"clip|{split}|{seed}|{index}")
    action = draw.pick(ACTIONS)
    for _ in range(TRIES):
        scene = scene_in(draw, split, World(objects=(1, 1, 1)))
        made = _frames(draw, scene, action)
        if made is not None:
            return SceneClip(made, action, 0)
    raise AssertionError(action)  # an object with two free cells beside it is never far


def _frames(draw: Draw, scene: Scene, action: str) -> tuple[Scene, ...] | None:
    """The pictures of an action of object 0; None where there is no room for it."""
    thing = next(t for t in scene.things if t.slot == 0)
    if action in _STEPS:
        down, right = _STEPS[action]
        row, column = divmod(thing.cell, GRID)
        path = [(row + k * down, column + k * right) for k in (1, 2)]
        cells = [r * GRID + c for r, c in path if 0 <= r < GRID and 0 <= c < GRID]
        if len(cells) < 2 or {t.cell for t in scene.things} & set(cells):
            return None
        return (scene, *(scene.changed(0, cell=PLACES[cell]) for cell in cells))
    if action == "stays":
        return scene, scene, scene
    field = "colour" if action == "turns colour" else "size"
    values = [v for slot, _, v, _ in changes(scene.things, (field,)) if slot == 0]
    if action != "turns colour" and thing.size != SIZES[action == "shrinks"]:
        return None
    after = scene.changed(0, **{field: draw.pick(values)})
    return (scene, scene, after) if draw.below(2) else (scene, after, after)


@dataclass(frozen=True, eq=False)
class PanoramaView:
    """One view of a panorama: pixels, which object every pixel belongs to (-1 for none), and the objects in it."""

    heading: int
    pixels: np.ndarray
    owner: np.ndarray
    things: tuple[Thing, ...]


@dataclass(frozen=True, eq=False)
class Panorama:
    """T13: objects all around, on three rows and twelve headings; slots are the same in all views."""

    seed: int
    index: int
    layout: SceneLayout
    headings: tuple[int, ...]
    rows: tuple[int, ...]

    def view(self, heading: int) -> PanoramaView:
        """Return what is seen in a direction: the heading in the middle column, its neighbours beside it."""
        columns = [(own - heading + 1) % HEADINGS for own in self.headings]
        shown = [slot for slot, column in enumerate(columns) if column < GRID]
        order = shown + [slot for slot in range(N_CELLS) if slot not in shown]
        cells = [self.rows[slot] * GRID + columns[slot] for slot in shown]
        cells += [cell for cell in range(N_CELLS) if cell not in cells]
        names = ("shape", "colour", "size", "down", "right", "bright")
        taken = {name: getattr(self.layout, name)[:, order] for name in names}
        layout = replace(
            self.layout, n=np.array([len(shown)]), cell=np.array([cells], dtype=np.int8), **taken
        )
        world = World()
        noise = noise_of(self.seed, [self.index * HEADINGS + heading])
        numbers = np.array([*order, *range(N_CELLS, SIDE)])
        owner = owner_map(layout, world)[0]
        things = tuple(replace(thing, slot=order[thing.slot]) for thing in things_of(layout, 0))
        pixels = paint(layout, noise, world)[0]
        return PanoramaView(heading, pixels, np.where(owner < 0, -1, numbers[owner]), things)


def panorama(seed: int, index: int, objects: int = 6) -> Panorama:
    """Return objects on different places of three rows and twelve headings, each seen in three views.

    Example:
        >>> around = panorama(0, 0)
        >>> sum(len(around.view(heading).things) for heading in range(12))
        18
    """
    draw = Draw(f"panorama|{seed}|{index}")
    places = draw.sample(range(GRID * HEADINGS), objects)
    layout = lay_out_many(seed, [index], World(objects=(*[0.0] * (objects - 1), 1.0), rings=0.0))
    return Panorama(
        seed, index, layout, tuple(p % HEADINGS for p in places), tuple(p // HEADINGS for p in places)
    )
