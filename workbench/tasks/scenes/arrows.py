"""T11: an arrow that points at an object."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import ARROW
from workbench.tasks.scenes.partners import (
    GRID,
    IMAGE,
    REGIONS,
    TRIES,
    hundredths,
    picture_of,
    regions_of,
    scene_in,
)
from workbench.tasks.scenes.truth import Scene, Thing
from workbench.tasks.scenes.words import PLACES, SHAPES

TEXT = "what is the arrow at here ?"
STEPS = {"right": (0, 1), "up": (-1, 0), "left": (0, -1), "down": (1, 0)}


@task(
    "scene-pointed",
    source="drawn scenes; after gaze following, Recasens et al. 2015",
    corruptions=("turned", "blank"),
    positions=(),
    describe="Say the shape that an arrow points at.",
    texts=(TEXT, *SHAPES),
    pictures=True,
    regions=(*REGIONS, "arrow"),
)
def scene_pointed(draw: Draw, *, split: str, corruption: str, noise: int = 4) -> Pair:
    """Draw one pair: an arrow in a free cell, and the nearest object that it points at, all shapes equally often.

    ``turned`` turns the arrow to an object of another shape. No built-in model was taught these words.

    Args:
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(objects=(0, 1, 1, 1), rings=0.0, noise=hundredths("noise", noise))
    shape = draw.pick(SHAPES)
    for _ in range(TRIES * 10):
        scene = scene_in(draw, split, world)
        ways = [way for way in arrows(scene.things) if way[2].shape == shape]
        if not ways:
            continue
        cell, direction, target = draw.pick(ways)
        others = [w for w in arrows(scene.things) if w[0] == cell and w[2].shape != shape]
        if others:
            break
    else:
        raise OptionError("no arrow can be put into pictures of this world", hint="another seed: --seed 1")
    clean = _with_arrow(scene, cell, direction)
    pointed: tuple[int, ...] = ()
    if corruption == "blank":
        other, wrong = clean.blank(), draw.pick([s for s in SHAPES if s != shape])
    else:
        _, turned, thing = draw.pick(others)
        other, pointed, wrong = _with_arrow(scene, cell, turned), (thing.slot,), thing.shape
    regions = [regions_of(s, own, own) for s, own in ((clean, (target.slot,)), (other, pointed))]
    named = {name: (regions[0][name], regions[1][name]) for name in regions[0]}
    return Pair(
        id="",
        clean=f"{IMAGE} {TEXT}",
        corrupted=f"{IMAGE} {TEXT}",
        correct=(f" {shape}",),
        incorrect=(f" {wrong}",),
        group="pointed",
        image=(picture_of(clean), picture_of(other)),
        grid=GRID,
        regions=named | {"arrow": (clean.patches(ARROW), other.patches(ARROW))},
    )


def arrows(things: Sequence[Thing]) -> list[tuple[int, str, Thing]]:
    """List every free cell and direction with the nearest object there."""
    at = {divmod(thing.cell, 3): thing for thing in things}
    found = []
    for cell in range(9):
        row, column = divmod(cell, 3)
        if (row, column) in at:
            continue
        for direction, (down, right) in STEPS.items():
            line = [(row + k * down, column + k * right) for k in (1, 2)]
            if hit := [at[place] for place in line if place in at]:
                found.append((cell, direction, hit[0]))
    return found


def _with_arrow(scene: Scene, cell: int, direction: str) -> Scene:
    return scene.changed(scene.things[0].slot, arrow=f"{PLACES[cell]}-{direction}")
