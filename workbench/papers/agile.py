"""Whether objects go where their words are looked at from, when a painter is guided by its attention.

The paper guides a diffusion model by its cross-attention, so that objects stay in or move to a region that is asked
for. Here the first object of a caption is asked into the upper half, and the caption says nothing of up and down.
Before each of the first six of 20 steps the state moves by a twentieth of its length along the slope of a loss: how
little of the looks at the object's colour and shape comes from the region. Strength and steps were chosen on an
earlier checkpoint of the same training and on captions of another seed. The paper translates photographs of plants and
learns embeddings for them: neither is here.

Controls:
- the same noise without guidance
- the words of the other object guided
- as long a move in a random direction
- scores for the words raised and lowered by region, without a gradient
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.edits.word_looks import WordLooks
from workbench.papers.kinds import Setting
from workbench.papers.kit import (
    Claim,
    Conditions,
    Control,
    Extension,
    Paper,
    above,
    answers,
    no_worse,
    room,
    untried,
)
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, RECONSTRUCTED
from workbench.papers.kit.picture_verdicts import add_verdicts
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.flat_shapes import draw_many
from workbench.tasks.canvas.words import GRID, SIDE

with lazily():
    from workbench.edits import guided_state
    from workbench.model.flow_painter import sample

# Criteria, fixed before anything was measured.
CAN, MOST, WITHIN = 0.6, 0.9, 0.1
FIRST_SEED = 51_000_000  # captions of this paper
UPPER = (0, 0, GRID // 2, GRID)
FIRST, SECOND = (1, 2), (5, 6)  # slots of colour and shape
PLAIN, GUIDED = "not guided", "guided by attention"
WRONG, RANDOM, RAISED = "the other object's words guided", "moved at random", "scores raised"
JUDGED = ("binding", "colour", "intact")


@dataclass(frozen=True, kw_only=True)
class AgileSizes(Sizes):
    """How much is painted."""

    pictures: int = size(100, "captions of two objects", least=4)
    strength: float = size(0.05, "of each move, in shares of the state's length")
    until: int = size(6, "the first step that is not guided", least=1)


def measure(setting: Setting) -> Conditions:
    """Paint the same captions from the same noise under each guidance, and read where the first object is.

    Raises:
        ModelError: for a model that does not paint.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    drawings = draw_many(seed, range(o.pictures), objects=2)
    captions = [drawing.items for drawing in drawings]
    c = Conditions(unit="share of pictures", seed=setting.seed)
    how: dict[str, Any] = {"model": model, "region": UPPER, "strength": o.strength, "until": o.until}
    edit = WordLooks(
        heads=tuple(f"a{layer}" for layer in range(model.cfg.n_layers)),
        slots=FIRST,
        region=UPPER,
        inside=3.0,
        outside=-3.0,
    )
    ways: dict[str, dict[str, Any]] = {
        PLAIN: {},
        GUIDED: {"steer": guided_state.GuidedState(slots=FIRST, **how)},
        WRONG: {"steer": guided_state.GuidedState(slots=SECOND, **how)},
        RANDOM: {"steer": guided_state.GuidedState(slots=FIRST, direction="random", seed=seed, **how)},
        RAISED: {"under": lambda step: edit.on(model)},
    }
    for done, (name, given) in enumerate(ways.items(), start=1):
        painted = sample.paint(model, captions, seed=seed, **given)
        c[f"in the region, {name}"] = hits(painted)
        add_verdicts(c, name, painted.verdicts(), JUDGED)
        setting.progress(done, len(ways), name)
    return c


def hits(painted: sample.Painted) -> np.ndarray:
    """Return 1 for each picture whose first object, known by colour and side, is there once and in the upper half."""
    found = []
    for seen, (first, *_) in zip(painted.read(), painted.captions, strict=True):
        own = [each for each in seen if (each.colour, each.side) == (first.colour, first.side)]
        found.append(float(len(own) == 1 and own[0].row < (SIDE - 1) / 2))
    return np.array(found)


def _hit(name: str) -> str:
    return f"in the region, {name}"


CLAIMS = {
    "lands": Claim(
        "objects land in the region that is asked for",
        above(_hit(GUIDED), _hit(PLAIN)),
        why="the same captions and noise, paired; the caption does not say up or down",
        where=RECONSTRUCTED,
        needs=[room(_hit(PLAIN), MOST, "{" + _hit(PLAIN) + ":.0%} are there without guidance")],
    ),
    "words": Control(
        "objects land in the region more often than when the other object's words are guided",
        above(_hit(GUIDED), _hit(WRONG)),
        why="the same loss on the words of the other object",
    ),
    "direction": Control(
        "objects land in the region more often than by moves as long in random directions",
        above(_hit(GUIDED), _hit(RANDOM)),
        why="a move of the same length in a random direction",
    ),
    **{
        f"{judged} kept": Claim(
            f"{says} are kept",
            no_worse(f"{judged}, {GUIDED}", f"{judged}, {PLAIN}", within=WITHIN),
            why="a tenth of the pictures may be lost; moved and intact are told beside each other",
            where=RECONSTRUCTED,
        )
        for judged, says in (("binding", "colours and shapes of both objects"), ("intact", "whole objects"))
    },
    "raised": Extension(
        "raising scores by region moves objects as well, without a gradient",
        above(_hit(RAISED), _hit(PLAIN)),
        why="the simplest edit of the same maps",
    ),
    "plants": untried(
        "images and labels of plants are translated between domains with their traits kept",
        "trait identification across domains",
        NO_PHOTOGRAPHS,
        where=RECONSTRUCTED,
    ),
    "embeddings": untried(
        "optimised text embeddings keep the source's looks",
        "translation with and without them",
        "the painter has no text encoder, and its words already say all that a picture shows",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="agile",
        source="AGILE 2025",
        model="zoo:painter",
        options=AgileSizes,
        measure=measure,
        needs=[answers(f"binding, {PLAIN}", CAN)],
        claims=CLAIMS,
    )
)
