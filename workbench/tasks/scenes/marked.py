"""T1: the object in the white frame, for models that put out classes."""

from __future__ import annotations

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.partners import (
    GRID,
    REGIONS,
    TRIES,
    changes,
    hundredths,
    picture_of,
    regions_of,
    scene_in,
)
from workbench.tasks.scenes.truth import Scene, Thing
from workbench.tasks.scenes.words import COLOURS, SHAPES


@task(
    "scene-marked",
    source="drawn scenes; after the marked-object tasks of the visual search literature",
    corruptions=("frame", "recoloured", "changed", "moved", "picture", "blank"),
    positions=(),
    describe="Name colour and shape of the object in the white frame.",
    texts=(*COLOURS, *SHAPES),
    pictures=True,
    regions=REGIONS,
)
def scene_marked(
    draw: Draw, *, split: str, corruption: str, objects: int = 0, noise: int = 4, rings: int = 15
) -> Pair:
    """Draw one pair of pictures without words; the answer is a class such as ``red star``, all thirty equally often.

    ``frame`` puts the frame around another object of the same picture, ``moved`` moves the framed object, which
    changes no answer (the incorrect one is then another object's, or any other class).

    Args:
        objects: How many, 1 to 4; 0 for two to four.
        noise: Pixel noise, in hundredths.
        rings: Chance of a grey ring in a free cell, in hundredths.

    Returns:
        The pair, without an id.
    """
    if corruption == "frame" and objects == 1:
        raise OptionError(
            "corruption 'frame' needs another object", hint="objects=2 (--task-option objects=2)"
        )
    world = World(
        objects=counts(objects, least=1 if objects else 2),
        noise=hundredths("noise", noise),
        rings=hundredths("rings", rings),
        marked=True,
    )
    name = f"{draw.pick(COLOURS)} {draw.pick(SHAPES)}"
    scene = _framed(draw, split, world, name)
    other = _other(draw, split, corruption, scene)
    wrong = class_of(other.asked) if other.things else name
    if wrong == name:
        names = [class_of(t) for t in scene.things if class_of(t) != name]
        wrong = draw.pick(names or [f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" != name])
    regions = [regions_of(each, _asked(each), _asked(each)) for each in (scene, other)]
    return Pair(
        id="",
        clean="",
        corrupted="",
        correct=(name,),
        incorrect=(wrong,),
        group=f"marked-{len(scene.things)}",
        image=(picture_of(scene), picture_of(other)),
        grid=GRID,
        regions={key: (regions[0][key], regions[1][key]) for key in regions[0]},
    )


def class_of(thing: Thing) -> str:
    """Return the class of an object."""
    return f"{thing.colour} {thing.shape}"


def counts(objects: int, *, least: int = 1) -> tuple[float, ...]:
    """Return the chances of one to four objects: exactly as many as asked for, or all from ``least`` on for 0.

    Raises:
        OptionError: for a number that is not there.
    """
    if objects and not least <= objects <= 4:
        raise OptionError(
            f"objects is {objects}; expected {least} to 4, or 0 for all of these",
            hint="objects=0 (--task-option objects=0)",
        )
    return tuple(float(n == objects if objects else n >= least) for n in range(1, 5))


def _framed(draw: Draw, split: str, world: World, name: str) -> Scene:
    """A picture whose framed object is of a class; another one is not, where there are others."""
    colour, shape = name.split()
    for _ in range(TRIES):
        scene = scene_in(draw, split, world).changed(0, colour=colour, shape=shape)
        if len(scene.things) == 1 or {class_of(thing) for thing in scene.things} != {name}:
            return scene
    raise OptionError("all objects of every picture are alike", hint="another seed: --seed 1")


def _asked(scene: Scene) -> tuple[int, ...]:
    return (scene.asked.slot,) if scene.things else ()


def _other(draw: Draw, split: str, corruption: str, scene: Scene) -> Scene:
    """The corrupted picture."""
    name = class_of(scene.asked)
    if corruption == "blank":
        return scene.blank()
    if corruption == "frame":
        others = [thing.slot for thing in scene.things if class_of(thing) != name]
        return scene.changed(draw.pick(others), marked="yes")
    if corruption == "picture":
        other = scene_in(draw, split, scene.world)
        while class_of(other.asked) == name:
            other = scene_in(draw, split, scene.world)
        return other
    fields = {"recoloured": ("colour",), "changed": ("colour", "shape"), "moved": ("cell",)}[corruption]
    made = [(slot, field, value) for slot, field, value, _ in changes(scene.things, fields) if slot == 0]
    slot, field, value = draw.pick(made)
    return scene.changed(slot, **{field: value})
