"""Drawn pictures to show what heads look at: a few for a tower, one for every kind of question for a language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from workbench.core.errors import WorkbenchError
from workbench.heads.asked_pictures import ask_pictures
from workbench.heads.looks import look_at
from workbench.heads.picture_look import PictureLook
from workbench.model.probe import wiring
from workbench.model.sight import sight_of
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import SceneQuestion
from workbench.tasks.scenes.truth import Scene

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MARKED = World(objects=(0.0, 1.0, 1.0, 1.0), marked=True)
"""Two to four objects, a frame around one: what towers are shown."""
ASKED = World(objects=(0.0, 1.0, 1.0, 1.0))
"""Two to four objects: what questions are about."""
KINDS = ("colour", "shape", "size", "place", "exist", "count")
"""Kinds of questions that are about one object of several."""
MOST_BYTES = 8 << 20  # of patterns in one page; base64 adds a third
N_TOWER = 3  # pictures


def about_one(question: SceneQuestion, scene: Scene) -> bool:
    """Whether a question is about exactly one object, and the picture has others."""
    return len(question.asked) == 1 and len(scene.things) > 1


def example_looks(model: TransformerBridge, *, seed: int = 0) -> tuple[tuple[PictureLook, ...], str]:
    """Look at a few drawn pictures with every head of a model that sees.

    Returns:
        The looks; and why there are none, or fewer: empty where nothing is to be said.
    """
    sight = sight_of(model)
    if sight is None:
        return (), ""
    found: list[PictureLook] = []
    try:
        for look in _alone(model, seed) if sight.token is None else _asked(model, seed):
            found.append(look)
            if sum(len(one.patterns) * one.size**2 for one in found) > MOST_BYTES:
                return tuple(
                    found[:-1]
                ), f"the page shows {len(found) - 1} pictures: more are too many numbers"
    except WorkbenchError as problem:
        return tuple(found), f"no drawn pictures on the page: {problem.message}"
    return tuple(found), ""


def _alone(model: TransformerBridge, seed: int) -> Iterator[PictureLook]:
    for index in range(N_TOWER):
        yield look_at(model, Scene(seed, index, MARKED))


def _asked(model: TransformerBridge, seed: int) -> Iterator[PictureLook]:
    asked = ask_pictures(model, ASKED, kinds=KINDS, n=len(KINDS), seed=seed, wanted=[about_one])
    for scene, question in zip(asked.scenes, asked.questions, strict=True):
        yield look_at(model, scene, question.text)
    for tower in wiring(model).towers:
        for scene in asked.scenes[:2]:
            yield look_at(model, scene, tower=tower)
