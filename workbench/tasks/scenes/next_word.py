"""T4: the next word of a description in reading order."""

from __future__ import annotations

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.partners import (
    GRID,
    IMAGE,
    REGIONS,
    TRIES,
    changes,
    hundredths,
    picture_of,
    regions_of,
    scene_in,
)
from workbench.tasks.scenes.questions import DESCRIBE, sentence_words
from workbench.tasks.scenes.truth import Scene


@task(
    "scene-describe",
    source="drawn scenes; hallucination is counted as in CHAIR, Rohrbach et al. 2018, arXiv:1809.02156",
    corruptions=("changed", "picture", "blank"),
    positions=(),
    describe="Say the next word of a description of all objects in reading order.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_describe(draw: Draw, *, split: str, corruption: str, noise: int = 8) -> Pair:
    """Draw one pair: a description up to some word of the object that comes next, size, colour or shape.

    ``changed`` changes just that word's attribute of that object.

    Args:
        noise: Pixel noise, in hundredths. It decides how much a model invents: at 4 next to nothing, at 12 much.

    Returns:
        The pair, without an id.
    """
    world = World(objects=(0, 1, 1, 1), noise=hundredths("noise", noise))
    scene = scene_in(draw, split, world)
    number, field = draw.below(len(scene.things)), draw.pick(("size", "colour", "shape"))
    thing = scene.things[number]
    before = [f"{t.phrase} ," for t in scene.things[:number]]
    started = thing.phrase.split()[: ("size", "colour", "shape").index(field)]
    right = getattr(thing, field)
    other, wrong = _other(draw, split, corruption, scene, number, field)
    text = " ".join([IMAGE, DESCRIBE, *before, *started])
    slots = (
        (thing.slot,),
        (other.things[number].slot,) if number < len(other.things) else (),
    )
    regions = [regions_of(s, own, own) for s, own in zip((scene, other), slots, strict=True)]
    return Pair(
        id="",
        clean=text,
        corrupted=text,
        correct=(f" {right}",),
        incorrect=(f" {wrong}",),
        group=f"describe-{field}-{number}",
        image=(picture_of(scene), picture_of(other)),
        grid=GRID,
        regions={name: (regions[0][name], regions[1][name]) for name in regions[0]},
    )


def _other(
    draw: Draw, split: str, corruption: str, scene: Scene, number: int, field: str
) -> tuple[Scene, str]:
    """The corrupted picture, and its word at that place of a description; any other word for a blank one."""
    slot, right = scene.things[number].slot, getattr(scene.things[number], field)
    values = [value for s, _, value, _ in changes(scene.things, (field,)) if s == slot]
    if corruption == "changed":
        value = draw.pick(values)
        return scene.changed(slot, **{field: value}), value
    if corruption == "blank":
        return scene.blank(), draw.pick(values)
    for _ in range(TRIES):
        other = scene_in(draw, split, scene.world)
        if number < len(other.things) and getattr(other.things[number], field) != right:
            return other, getattr(other.things[number], field)
    raise OptionError(f"no other picture has another {field} there", hint="another seed: --seed 1")
