"""Whether a loss on the attention of a target's words makes a painter put the object where a mask says.

The paper trains a video model to act on a target: a mask is an input, and the attention of a token to it is drawn into
the mask in some blocks. Here a painter gets one more vector, which is added to the patches of the mask while the
caption is read. The vector and the attention to words are trained for 25 steps from the painter, without the loss, with
it in all layers, or in one; two trainings each time. Steps were chosen on seed 9, where all arms were seen: after 80
nearly every picture has its object there, without the loss too, after 10 few have. Asked for are captions of two
objects with a target at a random place of the first object's half. A hit is its object, known by colour and half, at
most a pixel and a half away. The layer is chosen before training: the one whose maps fit the first object best.

Controls:
- the same painter trained without the loss
- the mask of another picture, for maps and for places
- the loss in the layer whose maps fit worst
- the painter before training
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Control, Extension, Paper, above, no_worse, room, untried
from workbench.papers.kit.claims import Claim
from workbench.papers.kit.frames import RECONSTRUCTED
from workbench.papers.kit.picture_verdicts import add_verdicts
from workbench.papers.kit.trained_arms import TRAININGS, add_means, in_each, of_training
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.flat_shapes import Drawing, draw_many
from workbench.tasks.canvas.picture_reader import at_place

with lazily():
    from workbench.model.flow_painter import sample
    from workbench.training import target_tokens

# Criteria, fixed before anything was measured.
MOST, WITHIN, NEAR = 0.95, 0.05, 1.5
FIRST_SEED, START = 53_000_000, "zoo:painter"
NONE, ALL, CHOSEN, WORST, BEFORE = "no loss", "all layers", "chosen layer", "worst layer", "before training"
JUDGED = ("binding", "intact")


@dataclass(frozen=True, kw_only=True)
class TargetSizes(Sizes):
    """How much is painted, and how long painters are trained."""

    pictures: int = size(64, "captions with a target each", least=4)
    choosing: int = size(24, "others, by which the layer is chosen", least=2)
    steps: int = size(25, "of each of two trainings", least=1)


def measure(setting: Setting) -> Conditions:
    """Paint the same captions and targets with every arm of both trainings; where the object is, where maps are.

    Raises:
        ModelError: for a model that does not paint.
    """
    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed
    painter = sample.require_painter(setting.model)
    tuning = target_tokens.TargetTuning(steps=o.steps)
    arms = [
        target_tokens.train_targets(painter, seed=each, tuning=tuning)
        for each in setting.each([seed + 10 + i for i in range(TRAININGS)], "trainings")
    ]
    c = Conditions(unit="share of pictures", within=SHARE, seed=setting.seed)
    choosing = draw_many(seed + 1, range(o.choosing), objects=2)
    fits = target_tokens.target_fits(painter, choosing, seed=seed + 1)
    c.tables["How well maps of the first object's words fit it, before training"] = [
        {"layer": layer, "intersection over union": fit} for layer, fit in enumerate(fits)
    ]
    named = {CHOSEN: f"layer {int(np.argmax(fits))}", WORST: f"layer {int(np.argmin(fits))}"}
    c.numbers |= named
    drawings = draw_many(seed, range(o.pictures), objects=2)
    places = target_tokens.draw_places(drawings, seed)
    _judge(c, BEFORE, painter, drawings, places, seed)
    for i, models in enumerate(arms):
        for arm in (NONE, ALL, CHOSEN, WORST):
            _judge(c, of_training(arm, i), models[named.get(arm, arm)], drawings, places, seed)
    add_means(c, len(arms))
    return c


def _judge(
    c: Conditions,
    name: str,
    model: Any,
    drawings: Sequence[Drawing],
    places: Sequence[tuple[int, int]],
    seed: int,
) -> None:
    """Paint with the targets; hits, verdicts, and how well the maps of all layers fit the masks."""
    import torch

    masks = torch.from_numpy(np.stack([target_tokens.box_patches(*place) for place in places]))
    painted, looks = target_tokens.paint_targets(model, [d.items for d in drawings], masks, seed=seed)
    for what, each in (("map", masks), ("map beside another's mask", masks.roll(1, 0))):
        overlap = target_tokens.target_overlap(looks, each)
        c.add(f"{what}, {name}", overlap, within=SHARE, unit="intersection over union")
    seen = list(zip(painted.read(), painted.captions, strict=True))
    for what, boxes in (("hit", places), ("hit of another's place", [*places[-1:], *places[:-1]])):
        hits = [
            at_place(read, items[0], at, near=NEAR) for (read, items), at in zip(seen, boxes, strict=True)
        ]
        c[f"{what}, {name}"] = np.array(hits, dtype=float)
    add_verdicts(c, name, painted.verdicts(), JUDGED)


ROOM = [room(f"hit, {NONE}", MOST, "{hit, " + NONE + ":.0%} are hit without the loss")]
CLAIMS = {
    "map": Claim(
        "with the loss the map of the target's words follows the mask",
        in_each(above, f"map, {ALL}", f"map, {NONE}"),
        why="mean over layers, heads and steps while painting; the same captions, noise and targets",
        where=RECONSTRUCTED,
        models=TRAININGS,
    ),
    "own mask": Control(
        "the map of the target's words follows its own mask more than that of another picture",
        in_each(above, f"map, {ALL}", f"map beside another's mask, {ALL}"),
        why="masks of another picture",
        models=TRAININGS,
    ),
    "trained": Extension(
        "a mask alone puts the object there more often than chance, after these few steps",
        in_each(above, f"hit, {NONE}", f"hit of another's place, {NONE}"),
        why="without the loss; another picture's place",
        models=TRAININGS,
    ),
    "picture": Claim(
        "with the loss the object is in the mask more often",
        in_each(above, f"hit, {ALL}", f"hit, {NONE}"),
        why="read off the picture; better maps and the same pictures would be an answer as well",
        where=RECONSTRUCTED,
        needs=ROOM,
        models=TRAININGS,
    ),
    "chosen": Claim(
        "with the loss in the chosen layer the object is in the mask as often as with all layers",
        in_each(no_worse, f"hit, {CHOSEN}", f"hit, {ALL}", within=WITHIN),
        why="a twentieth of the pictures may be lost",
        where=RECONSTRUCTED,
        models=TRAININGS,
    ),
    "wrong": Claim(
        "the chosen layer is better than the layer whose maps fit worst",
        in_each(above, f"hit, {CHOSEN}", f"hit, {WORST}"),
        why="the same loss and weight in one layer",
        where=RECONSTRUCTED,
        models=TRAININGS,
    ),
    **{
        judged: Extension(
            f"{says} are kept with the loss in all layers",
            in_each(no_worse, f"{judged}, {ALL}", f"{judged}, {NONE}", within=WITHIN),
            why="a twentieth of the pictures may be lost",
            models=TRAININGS,
        )
        for judged, says in (
            ("binding", "colours, shapes and sides of both objects"),
            ("intact", "whole objects"),
        )
    },
    "video": untried(
        "a person acts on the target in a video",
        "contact with the target",
        "the painter makes single pictures, and nobody acts in them",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="target-aware",
        source="Target-Aware Video Diffusion Models 2025",
        model=START,
        options=TargetSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
