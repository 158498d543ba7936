"""Halo attention: blocks of a picture look at themselves and at a halo around them, wider or narrower.

All patches of a block share their keys, so that attention is a few products of matrices. A summary of the paper and
the code of a re-implementation were read. Small readers of drawn pictures are trained side by side, from the same start
and on the same batches, two trainings each: every patch of an object has to name the shape of that object, of which
one patch shows a corner. Blocks are two by two patches of 64; the halo is 0, 1 or 2 patches wide. There are no
relative positions here, so that a halo costs no weights at all; positions are learned for each patch. A hybrid adds a
convolution of the values, 3 by 3, each channel by itself, to what attention reads.

Controls:
- random patches, as many for every patch as with a halo of 1
- the same halo without the convolution
- all patches, the reference
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, untried
from workbench.papers.kit.criteria import above, at_least, at_most, no_worse, slopes
from workbench.papers.kit.frames import SUMMARISED, Defined, Summarised
from workbench.papers.kit.trained_arms import (
    TRAININGS,
    TrainedControl,
    TrainedExtension,
    TrainedSizes,
    TrainedSummarised,
    add_arms,
    arms_for,
    in_each,
    of_training,
)
from workbench.papers.registry import add_paper

with lazily():
    from workbench.masks import agreement
    from workbench.training.mixers.arms import halo_pictures

# Criteria, fixed before anything was measured.
CLOSE, WITHIN, FEW = 1e-5, 0.02, 0.05
FIRST_SEED = 30_000_000  # pictures of this paper: no other seed of pictures is near
ALL, RANDOM, NARROW, HALO = "all keys", "random keys, as halo 1", "halo 0", "halo 1"
HYBRID, NARROW_HYBRID = "halo 1, convolution", "halo 0, convolution"
RIGHT, WIDTH = "right answers", "width of the halo"
WEIGHTS, MORE = "weights that a wider halo adds", "share of weights that the convolution adds"


def measure(setting: Setting) -> Conditions:
    """Compare the forms, judge the trained arms by the width of their halo, and count weights."""
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    c.numbers |= agreement.halo_forms(12, 3, (0, 1, 2), seed=setting.seed)
    arms, asked = arms_for(setting, "halo", first_seed=FIRST_SEED)
    rows: Any = asked
    add_arms(c, arms, rows)
    _by_width(c, rows)
    sizes = {
        name: sum(w.numel() for w in model.parameters())
        for name, model in next(iter(arms.models.values())).items()
    }
    narrow = sizes[NARROW]
    c.tell(WEIGHTS, max(sizes[f"halo {h}"] for h in halo_pictures.HALOS) - narrow)
    c.tell(MORE, sizes[HYBRID] / sizes[HALO] - 1)
    c.tables["Right answers and weights"] = [
        {"arm": name, "keys": _keys(shape), "right": float(c[name].mean()), "weights": sizes[name]}
        for name, shape in arms.comparison.arms.items()
        if not callable(getattr(shape.layers[0], "mask", None))  # routed regions are of another paper
    ]
    return c


def _keys(shape: Any) -> float:
    """Patches that a patch sees, mean over the picture."""
    mask = shape.layers[0].mask
    return float(shape.n_ctx if mask is None else mask.sum(-1).double().mean())


def _by_width(c: Conditions, rows: Any) -> None:
    """Right answers of all widths as one condition, beside the width, over both trainings and in each."""
    widths, pictures = halo_pictures.HALOS, np.nonzero(rows.target >= 0)[0].tolist()
    clusters = pictures * len(widths)
    names = {RIGHT: "halo {}", **{of_training(RIGHT, i): of_training("halo {}", i) for i in range(TRAININGS)}}
    for name, arm in names.items():
        right = np.concatenate([c[arm.format(h)] for h in widths])
        c.add(name, right, within=SHARE, unit="share", clusters=clusters)
    c.add(WIDTH, np.repeat(np.array(widths, float), len(pictures)), unit="patches", clusters=clusters)


def _grows() -> Any:
    found = slopes(RIGHT, WIDTH)
    for i in range(TRAININGS):
        found = found & slopes(of_training(RIGHT, i), WIDTH)
    return found


CLAIMS = {
    "forms": Defined(
        "attention of blocks over gathered keys is that under the mask",
        at_most("gathered and masked", CLOSE),
        why="float32 rounding of values of about 1",
    ),
    "keys": Defined(
        "inside the picture a patch sees (block + 2 halo) squared patches, in a corner (block + halo) squared",
        at_least("inner blocks and corners as said", 1),
        why="blocks of 3 by 3 with a halo of 0, 1 and 2 on 12 by 12 patches; counted",
    ),
    "grows": TrainedSummarised(
        "the wider the halo, the more right answers",
        _grows(),
        why="the slope over a halo of 0, 1 and 2 patches; patches of a picture are drawn together",
    ),
    "halo": TrainedSummarised(
        "a halo of one patch answers more than blocks alone",
        in_each(above, HALO, NARROW),
        why="same start and batches; at the border of its block a patch sees nothing of its neighbor otherwise",
    ),
    "random": TrainedControl(
        "a halo of one patch answers more than as many random patches",
        in_each(above, HALO, RANDOM),
        why="as many keys for each patch, its own among them, drawn once for each layer",
    ),
    "all": TrainedExtension(
        "a halo of one patch is nearly as good as all patches",
        in_each(no_worse, HALO, ALL, within=WITHIN),
        why="within two points in a hundred, interval included: 9 to 16 patches in place of 64",
    ),
    "few": Summarised(
        "a wider halo takes no more weights, and a convolution few",
        at_most(WEIGHTS, 0) & at_most(MORE, FEW),
        why="counted; with relative positions, as in the paper, a wider halo would take a few",
        models=2,
    ),
    "hybrid": TrainedSummarised(
        "a convolution beside attention helps",
        in_each(above, HYBRID, HALO),
        why="the same halo with and without it",
    ),
    "in place": TrainedExtension(
        "a convolution without a halo is worth more than a halo",
        in_each(above, NARROW_HYBRID, HALO),
        why="blocks alone with the convolution, whose 3 by 3 reach over their border, beside a halo of 1 without",
    ),
    "imagenet": untried(
        "on ImageNet it is as good as the best convolutional networks of its number of weights",
        "accuracy on the benchmarks of the paper, time of a step on accelerators",
        "photographs and models of that size cannot be had here",
        where=SUMMARISED,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="halo",
        source="Vaswani et al. 2021",
        model="zoo:marked",
        options=TrainedSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
