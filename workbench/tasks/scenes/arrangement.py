"""T5: how many, where, and what is beside what; T8: two objects of one shape with their colours exchanged."""

from __future__ import annotations

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.marked import counts
from workbench.tasks.scenes.partners import (
    ALL,
    REGIONS,
    TRIES,
    hundredths,
    kind_of,
    make_pair,
    question_pair,
    same_question,
    scene_in,
)
from workbench.tasks.scenes.questions import questions, sentence_words
from workbench.tasks.scenes.words import COLOURS

_SOURCE = "drawn scenes; after CLEVR, Johnson et al. 2017, arXiv:1612.06890"


@task(
    "scene-count",
    source=_SOURCE,
    corruptions=("picture", "changed", "recoloured", "question", "blank"),
    positions=("colour",),
    describe="Count all objects, or those of one colour.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_count(draw: Draw, *, split: str, corruption: str, about: str = "colour", noise: int = 4) -> Pair:
    """Draw one pair with a number as the answer, all equally often: zero to four of a colour, or one to four of all.

    Objects take the first one's colour more often than elsewhere, so that there is something to count.

    Args:
        about: ``colour``, ``all`` or ``mixed``.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(alike=0.4, noise=hundredths("noise", noise))
    of = ALL if (what := kind_of(draw, about, ("colour", "all"))) == "all" else "are here ?"
    return question_pair(
        draw, split=split, corruption=corruption, kind="count", world=world, group=f"count-{what}", of=of
    )


@task(
    "scene-place",
    source=_SOURCE,
    corruptions=("moved", "picture", "question", "blank"),
    positions=("colour", "shape"),
    describe="Say in which of nine places a coloured shape is.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_place(draw: Draw, *, split: str, corruption: str, objects: int = 0, noise: int = 4) -> Pair:
    """Draw one pair with a place as the answer, all nine equally often.

    Args:
        objects: How many, 1 to 4; 0 for two to four.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(objects=counts(objects, least=1 if objects else 2), noise=hundredths("noise", noise))
    return question_pair(
        draw, split=split, corruption=corruption, kind="place", world=world, group=f"place-{objects or 'all'}"
    )


@task(
    "scene-relation",
    source=_SOURCE,
    corruptions=("changed", "moved", "picture", "question", "blank"),
    positions=("shape",),
    describe="Say the shape of the nearest object left of, right of, above or below another.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_relation(draw: Draw, *, split: str, corruption: str, objects: int = 0, noise: int = 4) -> Pair:
    """Draw one pair with a shape as the answer, all five equally often.

    Args:
        objects: How many, 2 to 4; 0 for all of these.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(objects=counts(objects, least=2), noise=hundredths("noise", noise))
    group = f"relation-{objects or 'all'}"
    return question_pair(draw, split=split, corruption=corruption, kind="relation", world=world, group=group)


@task(
    "scene-binding",
    source="drawn scenes; after Winoground, Thrush et al. 2022, arXiv:2204.03162",
    corruptions=("exchanged",),
    positions=("colour", "shape"),
    describe="Say where a coloured shape is while another object of that shape has another colour.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_binding(draw: Draw, *, split: str, corruption: str, noise: int = 4) -> Pair:
    """Draw one pair: two objects of one shape and two colours; the corrupted picture has the colours exchanged.

    Everything that is in one picture is in the other; only which colour is where differs.

    Args:
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(objects=(0, 1, 1), noise=hundredths("noise", noise))
    for _ in range(TRIES):
        scene = scene_in(draw, split, world)
        first, second = draw.sample(COLOURS, 2)
        shape = scene.asked.shape
        scene = scene.changed(0, colour=first).changed(1, colour=second, shape=shape)
        found = [q for q in questions(scene.things, "place") if q.asked == (0,)]
        other = scene.changed(0, colour=second).changed(1, colour=first)
        partner = same_question(other, found[0]) if found else None
        if partner is not None:
            return make_pair(draw, (scene, found[0]), (other, partner), group="binding")
    raise OptionError("no two objects of one shape were found", hint="another seed: --seed 1")
