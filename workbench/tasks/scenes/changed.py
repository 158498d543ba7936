"""T9: the same picture with one attribute changed, noise included; every kind of question."""

from __future__ import annotations

from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.marked import counts
from workbench.tasks.scenes.partners import REGIONS, hundredths, kind_of, question_pair
from workbench.tasks.scenes.questions import KINDS, sentence_words


@task(
    "scene-changed",
    source="drawn scenes; counterfactual pairs that differ in the pixels of one object",
    corruptions=("changed",),
    positions=("colour", "shape"),
    describe="Answer a question of any kind; the partner differs in one attribute of one object.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_changed(
    draw: Draw, *, split: str, corruption: str, about: str = "mixed", objects: int = 0, noise: int = 4
) -> Pair:
    """Draw one pair of the same words; all pixels but those of one object are equal, so it always aligns.

    Args:
        about: A kind of question, or ``mixed``.
        objects: How many, 1 to 4; 0 for two to four.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(
        objects=counts(objects, least=1 if objects else 2), alike=0.4, noise=hundredths("noise", noise)
    )
    kind = kind_of(draw, about, KINDS)
    return question_pair(
        draw, split=split, corruption=corruption, kind=kind, world=world, group=f"changed-{kind}"
    )
