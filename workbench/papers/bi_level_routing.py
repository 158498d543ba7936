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
from functools import partial
from typing import Any

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.edits.kinds import ContentMask
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, answers, needs, untried
from workbench.papers.kit.criteria import above, at_least, at_most, beats_draws, no_worse
from workbench.papers.kit.frames import Defined, Extension
from workbench.papers.kit.trained_arms import (
    WHY,
    Trained,
    TrainedControl,
    TrainedExtension,
    TrainedSizes,
    TrainedSummarised,
    add_arms,
    add_trainings,
    arms_for,
    in_each,
)
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import drawn_pictures
    from workbench.masks import agreement
    from workbench.model import probe
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
    """How many pictures and draws."""

    rows: int = size(300, "pictures on which trained arms are judged")
    pictures: int = size(300, "on which routing is imposed on the model")
    draws: int = size(20, "of random keys there")


def measure(setting: Setting) -> Conditions:
    """Compare the forms, judge the trained arms, see where regions are routed, and impose routing on the model.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    c.numbers |= agreement.routed_forms(8, 4, (1, 4, 16), seed=setting.seed)
    arms, rows = arms_for(setting, "routed", first_seed=FIRST_SEED)
    add_arms(c, arms, rows)
    near, asked_near = arms_for(
        setting, "halo", first_seed=FIRST_SEED
    )  # for the shape of a patch's own object
    add_arms(c, near, asked_near, only=(ROUTED, WINDOW, ALL), named="near, {}")
    _followed(c, arms, rows)
    _impose(c, setting)
    return c


def _followed(c: Conditions, arms: Any, rows: Any) -> None:
    """How much likelier regions of the asked patches are routed to objects than to any region, picture by picture."""
    side, keep = routed_pictures.SIDE, routed_pictures.KEEP
    found, before = region_looks.lifts_of_arm(arms, ROUTED, rows, side=side, keep=keep)
    lifts = {FRAMED: found.framed, OTHERS: found.others, BEFORE: before.framed}
    for name, one in lifts.items():  # (training, layer, picture)
        add_trainings(c, name, one.mean(1), unit="times as often as a random region")
    caption = "Where regions of the asked patches are routed, times as often as a random region"
    c.tables[caption] = region_looks.lift_rows(lifts)
    c.numbers["pictures left out"] = found.left_out
    caption = "How often the asked patches of the first picture are routed to each patch, by layer"
    c.keep(region_looks.first_picture(found, title=caption))


def _impose(c: Conditions, setting: Setting) -> None:
    """Right answers of the model under routing, and under as many random keys."""
    o, model = setting.options, setting.model
    drawn = drawn_pictures.draw_framed(model, n=o.pictures, seed=FIRST_SEED + setting.seed)
    heads = tuple(f"a{layer}" for layer in probe.wiring(model).attention_layers)
    routed = partial(ContentMask, heads=heads, mask=IMPOSED)
    right = partial(drawn_pictures.rightly_named, model, drawn)
    c[PLAIN], c[OWN] = right(), right(routed().on(model))
    seeds = [1000 * setting.seed + i for i in range(o.draws)]
    c.draws[DRAWN] = [right(routed(random=s).on(model)) for s in setting.each(seeds, "random masks")]


CLAIMS = {
    "keys": Defined(
        "every query sees exactly the patches of the kept regions",
        at_least("queries with exactly their keys", 1),
        why="1, 4 and 16 of 16 regions of 64 patches: 4, 16 and 64 keys; counted",
    ),
    "forms": Defined(
        "attention over gathered regions is that under the mask",
        at_most("gathered and masked", CLOSE),
        why="float32 rounding of values of about 1",
    ),
    "dense": Defined(
        "with all regions kept it is full attention",
        at_most("all regions and plain", CLOSE),
        why="float32 rounding of values of about 1",
    ),
    **{
        name: TrainedSummarised(
            f"routed regions answer more than {words}",
            in_each(above, ROUTED, name),
            why="same start, batches and number of keys; patches of a picture are drawn together",
        )
        for name, words in {
            WINDOW: "a local window of as many patches",
            AXIAL: "row and column, which have 15 patches in place of 16",
            DILATED: "a coarse grid of as many patches",
        }.items()
    },
    **{
        name: TrainedControl(
            f"routed regions answer more than as many {name}",
            in_each(above, ROUTED, name),
            why=why,
        )
        for name, why in {
            REGIONS: "as many whole regions far and near, but none of them chosen",
            KEYS: "as many patches, each by itself: what choosing whole regions is worth",
        }.items()
    },
    "follows": Trained(
        "routing follows the object that is asked for",
        in_each(above, FRAMED, by=1.0),
        why="random regions have 1; the mean over both layers, so that no layer is chosen",
        where="the pictures of routed regions",
    ),
    "learned": TrainedControl(
        "before training, routing follows that object less",
        in_each(above, FRAMED, BEFORE),
        why="the same model at its start: white pixels alone might draw every region",
    ),
    "asked": TrainedExtension(
        "routing follows the object that is asked for more than another object",
        in_each(above, FRAMED, OTHERS),
        why="other objects are as unlike the ground; a routing that seeks objects would find both",
    ),
    "near": TrainedExtension(
        "where a patch is asked for its own object, a window of as many patches is as good as routed regions",
        in_each(no_worse, f"near, {WINDOW}", f"near, {ROUTED}", within=WITHIN),
        why="the other way round: what routing is worth at a distance is not worth it near by",
        needs=[needs(lambda c: not c.numbers[f"near, {WHY}"], lambda c: c.numbers[f"near, {WHY}"])],
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
        source="Zhu et al. 2023",
        model="zoo:marked",
        options=RoutingSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
