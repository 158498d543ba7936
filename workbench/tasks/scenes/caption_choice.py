"""Pictures beside captions: which caption is the picture's own, and which class a picture is of without training."""

from __future__ import annotations

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.marked import class_of, counts
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
from workbench.tasks.scenes.truth import Scene
from workbench.tasks.scenes.words import COLOURS, SHAPES, SIZES

_WORDS = ("left", "right", "of", "above", "below", "and")


@task(
    "scene-captions",
    source="drawn scenes; matching as in CLIP, Radford et al. 2021, arXiv:2103.00020",
    corruptions=("picture", "caption", "both", "changed", "blank"),
    positions=(),
    describe="Match a picture with its caption, among captions of other pictures.",
    texts=(*SIZES, *COLOURS, *SHAPES, *_WORDS),
    pictures=True,
    regions=REGIONS,
)
def scene_captions(
    draw: Draw, *, split: str, corruption: str, objects: int = 2, captions: int = 4, noise: int = 4
) -> Pair:
    """Draw one pair: a picture beside captions, one on each line.

    The first caption is its own, the second that of the same picture with another shape or colour of one object, the
    others are of other pictures.

    ``changed`` shows the picture of the second caption, ``picture`` that of the third, ``caption`` exchanges the first
    and the third caption. ``both`` shows the picture of the third and exchanges the first two captions: either change
    alone makes the answer wrong.

    Args:
        objects: How many in every picture, 1 to 4: captions of one length.
        captions: How many, 3 to 16.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    if not 3 <= captions <= 16:
        raise OptionError(
            f"captions is {captions}; expected 3 to 16", hint="captions=4 (--task-option captions=4)"
        )
    if not 1 <= objects <= 4:
        raise OptionError(
            f"objects is {objects}; expected 1 to 4, the same in all pictures",
            hint="objects=2 (--task-option objects=2)",
        )
    scene = scene_in(draw, split, World(objects=counts(objects), noise=hundredths("noise", noise)))
    shown = [scene, _changed(draw, scene)]
    while len(shown) < captions:
        shown.append(_alike(draw, split, shown))
    lines = [each.caption for each in shown]
    first = {"caption": [2, 1, 0], "both": [1, 0, 2]}.get(corruption, [0, 1, 2])
    said = [*(lines[i] for i in first), *lines[3:]]
    other = {"caption": scene, "blank": scene.blank(), "changed": shown[1]}.get(corruption, shown[2])
    return Pair(
        id="",
        clean="\n".join(lines),
        corrupted="\n".join(said),
        correct=(lines[0],),
        incorrect=tuple(lines[1:]),
        group=f"captions-{len(lines[0].split())}",
        image=(picture_of(scene), picture_of(other)),
        grid=GRID,
        regions=_regions(scene, other),
    )


@task(
    "scene-zero-shot",
    source="drawn scenes; classes by captions as in CLIP, Radford et al. 2021, arXiv:2103.00020",
    corruptions=("picture", "changed", "blank"),
    positions=(),
    describe="Name colour and shape of the one object, each class by a caption.",
    texts=(*SIZES, *COLOURS, *SHAPES),
    pictures=True,
    regions=REGIONS,
)
def scene_zero_shot(
    draw: Draw, *, split: str, corruption: str, template: str = "large {}", noise: int = 4
) -> Pair:
    """Draw one pair: a picture of one object beside captions of all thirty classes, such as ``large red star``.

    Args:
        template: The caption of a class; ``{}`` stands for its colour and shape.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    if template.count("{}") != 1:
        raise OptionError(
            f"template is {template!r}; expected one {{}} in it, for colour and shape",
            hint="template='large {}' (--task-option template='large {}')",
        )
    scene = scene_in(draw, split, World(objects=counts(1), noise=hundredths("noise", noise)))
    other = {"blank": scene.blank, "changed": lambda: _changed(draw, scene)}.get(
        corruption, lambda: _alike(draw, split, [scene])
    )()
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    right = class_of(scene.asked)
    wrong = class_of(other.asked) if other.things else draw.pick([n for n in names if n != right])
    text = "\n".join(template.replace("{}", name) for name in names)
    return Pair(
        id="",
        clean=text,
        corrupted=text,
        correct=(template.replace("{}", right),),
        incorrect=(template.replace("{}", wrong),),
        group="zero-shot",
        image=(picture_of(scene), picture_of(other)),
        grid=GRID,
        regions=_regions(scene, other),
    )


def _alike(draw: Draw, split: str, others: list[Scene]) -> Scene:
    """A picture whose caption has as many words, and other objects in it."""
    said = {each.caption for each in others}
    classes = [{class_of(thing) for thing in each.things} for each in others]
    for _ in range(10 * TRIES):
        scene = scene_in(draw, split, others[0].world)
        fits = len(scene.caption.split()) == len(others[0].caption.split())
        if fits and scene.caption not in said and {class_of(thing) for thing in scene.things} not in classes:
            return scene
    raise OptionError(
        "no other picture of this world has a caption of this length",
        hint="another seed: --seed 1, or objects=2",
    )


def _changed(draw: Draw, scene: Scene) -> Scene:
    """The same picture with another shape or colour of its first object."""
    made = [(s, f, v) for s, f, v, _ in changes(scene.things, ("colour", "shape")) if s == 0]
    slot, field, value = draw.pick(made)
    return scene.changed(slot, **{field: value})


def _regions(scene: Scene, other: Scene) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The first object as the object, in both pictures."""
    found = [regions_of(each, (0,), (0,)) for each in (scene, other)]
    return {name: (found[0][name], found[1][name]) for name in found[0]}
