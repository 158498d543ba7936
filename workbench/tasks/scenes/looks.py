"""T2: colour, shape and size of the object that the question names; T6: the same of tiny objects."""

from __future__ import annotations

from dataclasses import replace

from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.marked import counts
from workbench.tasks.scenes.partners import REGIONS, hundredths, kind_of, question_pair
from workbench.tasks.scenes.questions import sentence_words

KINDS = ("colour", "shape", "size")


@task(
    "scene-attributes",
    source="drawn scenes; after CLEVR, Johnson et al. 2017, arXiv:1612.06890",
    corruptions=("changed", "recoloured", "picture", "question", "blank"),
    positions=("colour", "shape"),
    describe="Say colour, shape or size of the object that the question names.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_attributes(
    draw: Draw, *, split: str, corruption: str, about: str = "colour", objects: int = 0, noise: int = 4
) -> Pair:
    """Draw one pair: a picture of two to four objects and a question whose answer is one word.

    Args:
        about: ``colour``, ``shape``, ``size`` or ``mixed``.
        objects: How many, 1 to 4; 0 for two to four.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    kind = kind_of(draw, about, KINDS)
    world = World(objects=counts(objects, least=1 if objects else 2), noise=hundredths("noise", noise))
    return question_pair(
        draw, split=split, corruption=corruption, kind=kind, world=world, group=f"{kind}-{objects or 'all'}"
    )


@task(
    "scene-small",
    source="drawn scenes; after the small objects of V*, Wu and Xie 2023, arXiv:2312.14135",
    corruptions=("changed", "picture", "blank"),
    positions=("colour", "shape"),
    describe="Say colour or shape of an object of six pixels, or of the part around it as the whole picture.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_small(
    draw: Draw, *, split: str, corruption: str, about: str = "shape", zoom: bool = False, noise: int = 4
) -> Pair:
    """Draw one pair about a tiny object; with ``zoom`` the window around it is the picture, twice as large.

    Args:
        about: ``colour``, ``shape`` or ``mixed``.
        zoom: Show the window.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    kind = kind_of(draw, about, KINDS[:2])
    world = World(objects=(0, 1, 1, 1), tiny=True, zoom=zoom, noise=hundredths("noise", noise))
    group, can = f"small-{kind}-{'window' if zoom else 'whole'}", ("changed", "picture", "blank")
    return question_pair(
        draw, split=split, corruption=corruption, kind=kind, world=world, group=group, corruptions=can
    )


@task(
    "scene-clutter",
    source="drawn scenes; after the corruptions of ImageNet-C, Hendrycks and Dietterich 2019, arXiv:1903.12261",
    corruptions=("changed", "recoloured", "picture", "question", "blank"),
    positions=("colour", "shape"),
    describe="The same questions in pictures with more rings, stronger waves, turned colours or noise.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_clutter(
    draw: Draw,
    *,
    split: str,
    corruption: str,
    about: str = "colour",
    rings: int = 80,
    texture: int = 12,
    hue: int = 0,
    noise: int = 4,
) -> Pair:
    """Draw one pair as in ``scene-attributes``, in a picture that is harder to read.

    Args:
        about: ``colour``, ``shape``, ``size`` or ``mixed``.
        rings: Chance of a grey ring in a free cell, in hundredths.
        texture: Height of the waves on the ground, in hundredths.
        hue: Degrees by which all colours are turned.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    kind = kind_of(draw, about, KINDS)
    world = World(objects=(0, 1, 1, 1), hue=float(hue), noise=hundredths("noise", noise))
    world = replace(world, rings=hundredths("rings", rings), texture=hundredths("texture", texture))
    group = f"clutter-{kind}"
    return question_pair(draw, split=split, corruption=corruption, kind=kind, world=world, group=group)
