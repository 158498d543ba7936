"""Interaction features: what a figure that looks gives to every patch, in all heads, says where it looks.

An arrow stands for a face: its four patches are the figure, and the nearest object in front of it is the target. A
small head reads, for each patch, how much the figure's patches attend to it in every head of the frozen tower. No
built-in model was taught arrows, so the same is asked where a tower was taught to look: from the class token of
`zoo:marked` to the framed object. Heads are trained on some pictures and judged on others, with two seeds. Only the
abstract of the paper was read.

Controls:
- the heads of each picture dealt anew, in training and after it
- targets of other pictures in training
- what the patches themselves hold, beside what the figure holds
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, untried
from workbench.papers.kit.criteria import above, at_most
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.heads import drawn_pictures, figure_scenes, span_to_all

# Criteria, fixed before anything was measured.
HIT, SMALL, SEEDS = 0.5, 0.01, (0, 1)
FIRST_SEED = 43_000_000  # pictures of this paper: no other seed of pictures is near
ATTENTION, DEALT_HEADS, HIDDEN, DEALT = (
    "attention features",
    "heads dealt anew",
    "hidden features",
    "targets of other pictures",
)
FRAME, FRAME_DEALT = "class token, attention features", "class token, heads dealt anew"
SHARE_OF = "parameters of the head, share of the tower's"


@dataclass(frozen=True, kw_only=True)
class GazeFeatureSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(600, "pictures that heads are trained on", least=2)
    pictures: int = size(400, "others that they are judged on", least=2)
    layer: int = size(1, "after which hidden features are read")
    noise: float = size(0.04, "of pixels")
    steps: int = size(400, "of training")


def measure(setting: Setting) -> Conditions:
    """Follow arrows by several features, and look from the class token to the framed object.

    Raises:
        ModelError: for a model that does not read pictures alone.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 10 * setting.seed
    c = Conditions(unit="share of targets that are hit", within=SHARE, seed=setting.seed)
    n, how = o.training + o.pictures, {"training": o.training, "steps": o.steps, "seeds": SEEDS}
    setting.progress(0, 3, "arrows")
    arrows = figure_scenes.draw_figures(model, World(objects=(0, 1, 1, 1), noise=o.noise), n=n, seed=seed)
    hidden = span_to_all.beside_span(arrows.hidden(o.layer), arrows.figure)
    given = span_to_all.span_to_all(arrows.patterns, arrows.figure)
    dealt = np.random.default_rng(seed).permutation(o.training)
    features = {
        ATTENTION: (given, None),
        DEALT_HEADS: (span_to_all.shuffled_heads(given, seed=seed), None),
        HIDDEN: (hidden, None),
        DEALT: (given, np.concatenate([dealt, np.arange(o.training, len(arrows))])),
    }
    found = {}
    for i, (name, (those, labels)) in enumerate(features.items()):
        setting.progress(i, len(features), name)
        found[name] = span_to_all.follow(those, arrows.own, grid=arrows.grid, labels=labels, **how)
        c[name] = found[name].hits
    c.numbers |= {"parameters": found[ATTENTION].parameters, "of hidden features": found[HIDDEN].parameters}
    whole = sum(p.numel() for p in model.parameters())
    c.tell(SHARE_OF, found[ATTENTION].parameters / whole, control=found[HIDDEN].parameters / whole)
    setting.progress(2, 3, "the class token")
    framed = drawn_pictures.draw_pictures(
        model, World(marked=True, objects=(0, 1, 1, 1), noise=o.noise), n=n, seed=seed + 1
    )
    looks = figure_scenes.class_looks(model, framed)
    for name, those in ((FRAME, looks), (FRAME_DEALT, span_to_all.shuffled_heads(looks, seed=seed))):
        c[name] = span_to_all.follow(those, framed.own, grid=framed.grid, **how).hits
    return c


CLAIMS = {
    "predicts": Reconstructed(
        "attention from the figure to all patches predicts the target",
        above(ATTENTION, DEALT),
        why="with the targets of other pictures there is nothing to learn but where targets are on average",
    ),
    "heads": Control(
        "attention features say more than those with heads dealt anew: it matters which head gives what",
        above(ATTENTION, DEALT_HEADS),
        why="the same numbers, dealt among the heads of each picture",
    ),
    "hidden": Reconstructed(
        "attention features predict it better than hidden features",
        above(ATTENTION, HIDDEN),
        why="hidden features have what the figure holds beside them, and the head is of the same form",
    ),
    "most": Reconstructed(
        "attention features are enough to hit most targets",
        above(ATTENTION, by=HIT),
        "more than half of the targets are hit: interval above 0.5",
        why="features that predict something may still be of little use",
    ),
    "few": Reconstructed(
        "few parameters suffice: less than one in a hundred of the tower's",
        at_most(SHARE_OF, SMALL),
        "the head has at most 1% as many parameters as the tower",
        why="what is counted is true by construction here; whether they suffice is the claim before",
    ),
    "class": Extension(
        "where a tower was taught to look, its attention says where",
        above(FRAME, FRAME_DEALT),
        why="the class token of this tower learned to find the frame; the control are its heads dealt anew",
    ),
    "people": untried(
        "gazes of people in photographs are followed",
        "AUC and distance on GazeFollow and VideoAttentionTarget",
        "photographs of people who look, and towers trained without labels, cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="interaction-features",
        source="ViTGaze 2024",
        model="zoo:marked",
        options=GazeFeatureSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
