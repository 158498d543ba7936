"""Bi-level routing: regions of a picture first choose regions, then patches look at all patches of the chosen ones.

A region is routed to those whose mean key fits its mean query best; nothing is learned through the choice. A summary
of the paper and its code were read: there the tokens of the network stand for ImageNet, here small readers of drawn
pictures are trained side by side, from the same start and on the same batches, two trainings each. Every patch of an
object has to name the color of the object in the white frame, which stands elsewhere. Heads are routed together, as in
the code; the convolution of values beside it is left out, for the other masks have none. Routing is also imposed on a
model that was trained without.

Controls:
- a window of as many patches, a coarse grid of as many, row and column (15 patches in place of 16)
- as many random regions, its own among them, and as many random patches, drawn once for each layer
- the other objects of the picture, for where regions are routed
- all patches, the reference
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.edits.kinds import ContentMask
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, answers, needs, untried
from workbench.papers.kit.criteria import above, at_least, at_most, beats_draws, no_worse
from workbench.papers.kit.frames import Control, Extension
from workbench.papers.kit.trained_arms import (
    REFERENCE_LEARNED,
    TRAININGS,
    WHY,
    TrainedSizes,
    add_arms,
    arms_for,
    in_each,
    of_training,
)
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import drawn_pictures
    from workbench.masks import agreement
    from workbench.model import hooks, probe
    from workbench.training.mixers import region_looks
    from workbench.training.mixers.arms import routed_pictures

# Criteria, fixed before anything was measured.
CLOSE, ABLE_FROM, WITHIN = 1e-5, 0.7, 0.02
FIRST_SEED = 28_000_000  # pictures of this paper: no other seed of pictures is near
ALL, ROUTED, WINDOW, AXIAL, DILATED = "all keys", "routed", "window", "axial", "dilated"
REGIONS, KEYS = "random regions", "random keys"
FRAMED, OTHERS = "routed to the framed object", "routed to another object"
BEFORE = "routed to the framed object, before training"
OWN, DRAWN, PLAIN = "imposed, routed", "imposed, random keys", "imposed, all patches"
IMPOSED = "grid-routed:side=3,keep=2,before=1"


@dataclass(frozen=True, kw_only=True)
class RoutingSizes(TrainedSizes):
    """Sizes.

    Attributes:
        rows: Pictures on which trained arms are judged.
        pictures: On which routing is imposed on the model.
        draws: Of random keys there.
    """

    rows: int = 300
    pictures: int = 300
    draws: int = 20


def measure(setting: Setting) -> Conditions:
    """Compare the forms, judge the trained arms, see where regions are routed, and impose routing on the model.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    c.numbers |= agreement.routed_forms(8, 4, (1, 4, 16), seed=setting.seed)
    arms, asked = arms_for(setting, "routed", first_seed=FIRST_SEED)
    rows: Any = asked
    add_arms(c, arms, rows)
    _near_by(c, setting)
    _followed(c, arms, rows)
    _impose(c, setting)
    return c


def _near_by(c: Conditions, setting: Setting) -> None:
    """The same where a patch is asked for the shape of its own object: what is looked for is near."""
    found, rows = arms_for(setting, "halo", first_seed=FIRST_SEED)
    part = Conditions(seed=setting.seed)
    add_arms(part, found, rows)
    for arm in (ROUTED, WINDOW, ALL):
        for name in (arm, *(of_training(arm, i) for i in range(TRAININGS))):
            c.add(
                f"near, {name}", part[name], within=SHARE, unit=c.unit, clusters=part.measures[name].clusters
            )
    c.numbers[f"near, {WHY}"] = part.numbers[WHY]


def _followed(c: Conditions, arms: Any, rows: Any) -> None:
    """How much likelier regions of the asked patches are routed to objects than to any region, picture by picture."""
    where = {"side": routed_pictures.SIDE, "keep": routed_pictures.KEEP}
    found = region_looks.object_lifts([models[ROUTED] for models in arms.models.values()], rows, **where)
    starts = [arms.comparison.begin(seed).eval()[ROUTED] for seed in arms.seeds]
    before = region_looks.object_lifts(starts, rows, **where)
    for name, lifts in ((FRAMED, found.framed), (OTHERS, found.others), (BEFORE, before.framed)):
        whole = lifts.mean(1)  # over layers: (training, picture)
        parts = {name: whole.mean(0), **{of_training(name, i): one for i, one in enumerate(whole)}}
        for part, values in parts.items():
            c.add(part, values, unit="times as often as a random region")
    c.tables["Where regions of the asked patches are routed, times as often as a random region"] = [
        {"training": i + 1, "layer": layer}
        | {
            name: float(lifts[i, layer].mean())
            for name, lifts in ((FRAMED, found.framed), (OTHERS, found.others), (BEFORE, before.framed))
        }
        for i in range(len(found.framed))
        for layer in range(found.framed.shape[1])
    ]
    c.numbers["pictures left out"] = found.left_out
    caption = "How often the asked patches of the first picture are routed to each patch, by layer"
    labels = [f"layer {i}" for i in range(len(found.first))]
    c.pictures[caption] = HeadMaps.of(
        found.first[None], ["share"], labels, pixels=found.pixels, title=caption
    )


def _impose(c: Conditions, setting: Setting) -> None:
    """Right answers of the model under routing, and under as many random keys."""
    o, model = setting.options, setting.model
    world = World(marked=True, objects=(0, 1, 1, 1))
    drawn = drawn_pictures.draw_pictures(model, world, n=o.pictures, seed=FIRST_SEED + setting.seed)
    wanted = np.asarray(drawn_pictures.classes_of(model, drawn.names()))
    heads = tuple(f"a{layer}" for layer in probe.wiring(model).attention_layers)

    def right(random: int | None = None) -> np.ndarray:
        with ContentMask(heads=heads, mask=IMPOSED, random=random).on(model):
            said = hooks.forward(model, drawn.prompt, last_only=False).flatten(1).argmax(-1)
        return (said.cpu().numpy() == wanted).astype(float)

    said = hooks.forward(model, drawn.prompt, last_only=False).flatten(1).argmax(-1)
    c[PLAIN], c[OWN] = (said.cpu().numpy() == wanted).astype(float), right()
    c.draws[DRAWN] = [right(1000 * setting.seed + i) for i in setting.each(range(o.draws), "random masks")]


def _in_each_lift(name: str, over: str | None, by: float = 0.0) -> Any:
    found = above(name, over, by=by)
    for i in range(TRAININGS):
        found = found & above(of_training(name, i), None if over is None else of_training(over, i), by=by)
    return found


FIT = [REFERENCE_LEARNED]
SUMMARY = "summary, reconstructed"
CLAIMS = {
    "keys": Claim(
        "every query sees exactly the patches of the kept regions",
        at_least("queries with exactly their keys", 1),
        why="1, 4 and 16 of 16 regions of 64 patches: 4, 16 and 64 keys; counted",
        where="definition",
        models=None,
    ),
    "forms": Claim(
        "attention over gathered regions is that under the mask",
        at_most("gathered and masked", CLOSE),
        why="float32 rounding of values of about 1",
        where="definition",
        models=None,
    ),
    "dense": Claim(
        "with all regions kept it is full attention",
        at_most("all regions and plain", CLOSE),
        why="float32 rounding of values of about 1",
        where="definition",
        models=None,
    ),
    **{
        name: Claim(
            f"routed regions answer more than {words}",
            in_each(above, ROUTED, name),
            why="same start, batches and number of keys; patches of a picture are drawn together",
            where=SUMMARY,
            needs=FIT,
            models=2,
        )
        for name, words in {
            WINDOW: "a local window of as many patches",
            AXIAL: "row and column, which have 15 patches in place of 16",
            DILATED: "a coarse grid of as many patches",
        }.items()
    },
    **{
        name: Control(
            f"routed regions answer more than as many {name}",
            in_each(above, ROUTED, name),
            why=why,
            needs=FIT,
            models=2,
        )
        for name, why in {
            REGIONS: "as many whole regions far and near, but none of them chosen",
            KEYS: "as many patches, each by itself: what choosing whole regions is worth",
        }.items()
    },
    "follows": Claim(
        "routing follows the object that is asked for",
        _in_each_lift(FRAMED, None, by=1.0),
        why="random regions have 1; the mean over both layers, so that no layer is chosen",
        where="the pictures of routed regions",
        needs=FIT,
        models=2,
    ),
    "learned": Control(
        "before training it does not follow it as much",
        _in_each_lift(FRAMED, BEFORE),
        why="the same model at its start: white pixels alone might draw every region",
        needs=FIT,
        models=2,
    ),
    "asked": Extension(
        "it follows that object and not objects of any kind",
        _in_each_lift(FRAMED, OTHERS),
        why="other objects are as unlike the ground; a routing that seeks objects would find both",
        needs=FIT,
        models=2,
    ),
    "near": Extension(
        "where a patch is asked for its own object, a window of as many patches is as good as routed regions",
        in_each(no_worse, f"near, {WINDOW}", f"near, {ROUTED}", within=WITHIN),
        why="the other way round: what routing is worth at a distance is not worth it near by",
        needs=[needs(lambda c: not c.numbers[f"near, {WHY}"], lambda c: c.numbers[f"near, {WHY}"])],
        models=2,
    ),
    "imposed": Extension(
        "imposed on a model trained without, routed regions keep more right answers than as many random patches",
        beats_draws(OWN, DRAWN),
        why="2 of 9 regions, 8 of 36 patches; the class token sees all in both",
        needs=[answers(PLAIN, ABLE_FROM)],
    ),
    "imagenet": untried(
        "it is better than other vision transformers of its cost on ImageNet, COCO and ADE20K",
        "accuracy on the benchmarks of the paper",
        "photographs and models of that size cannot be had here",
        where="main results",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="bi-level-routing",
        title="BiFormer: Vision Transformer with Bi-Level Routing Attention",
        source="Zhu et al. 2023",
        model="zoo:marked",
        options=RoutingSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
