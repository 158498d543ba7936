"""T3: whether something is there, with hard negatives and, if wanted, a planted prior."""

from __future__ import annotations

from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.marked import counts
from workbench.tasks.scenes.partners import REGIONS, hundredths, question_pair
from workbench.tasks.scenes.questions import sentence_words


@task(
    "scene-exist",
    source="drawn scenes; after POPE, Li et al. 2023, arXiv:2305.10355",
    corruptions=("changed", "recoloured", "picture", "question", "blank"),
    positions=("colour", "shape"),
    describe="Say whether a coloured shape is there; where it is not, the colour or the shape is.",
    texts=sentence_words(),
    pictures=True,
    regions=REGIONS,
)
def scene_exist(
    draw: Draw, *, split: str, corruption: str, prior: int = 0, objects: int = 0, noise: int = 4
) -> Pair:
    """Draw one pair with the answer yes or no, both equally often.

    Args:
        prior: Chance that a star is made yellow and a cross purple, in hundredths: 90 plants a prior that a model
            trained on such pictures learns; at 50 it was too weak to see.
        objects: How many, 1 to 4; 0 for two to four.
        noise: Pixel noise, in hundredths.

    Returns:
        The pair, without an id.
    """
    world = World(
        objects=counts(objects, least=1 if objects else 2),
        prior=hundredths("prior", prior),
        noise=hundredths("noise", noise),
    )
    return question_pair(
        draw, split=split, corruption=corruption, kind="exist", world=world, group=f"exist-{objects or 'all'}"
    )
