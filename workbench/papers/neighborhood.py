"""Neighborhood attention: exactly so many keys around each query, and work that grows as the length does.

At the borders the window is shifted inwards, so that every query has the same number of keys. One key is a linear
projection, all keys are full attention. The attention over listed keys is compared with that under a mask, and its work
is counted: products, and numbers that are written, operation by operation. The paper claims time; seconds are told
beside, and judge nothing: they depend on what else the machine does. Then neighborhoods of patches are imposed on a
model that names the object in the white frame; the class token sees all patches and is seen by all. The model was
trained without them: what training would mend is not asked here.

Controls:
- full attention over the same queries, keys and values
- random patches, as many for every patch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.association import slope
from workbench.core.stats.intervals import SHARE
from workbench.edits.mask_kinds import Mask
from workbench.masks import grids
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, answers, untried
from workbench.papers.kit.criteria import above, at_least, at_most, beats_draws
from workbench.papers.kit.frames import Defined
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import drawn_pictures
    from workbench.masks import agreement, derived
    from workbench.model import probe

# Criteria, fixed before anything was measured.
CLOSE, LINEAR, QUADRATIC, LEARNED, WIDTH = 1e-5, 1.25, 1.75, 0.7, 3
FIRST_SEED = 26_000_000  # pictures of this paper: no other seed of pictures is near
WHOLE, NEAR, RANDOM, GAIN = "all patches", "nine patches around", "nine random patches", "gain by width"
APART = "largest difference of the two forms"
ALL, GATHERED, POWER, WORK = "all keys", "gathered", "power of the length", ("multiply-adds", "written")
SECONDS = f"{{{{{POWER}, seconds of {{}}:.2f}}}} in seconds"


@dataclass(frozen=True, kw_only=True)
class NeighborhoodSizes:
    """Sizes.

    Attributes:
        pictures: That the model is asked about.
        draws: Of random masks.
        lengths: Tokens at which work of both forms is counted and timed, with 32 keys.
        noise: Of pixels.
    """

    pictures: int = 300
    draws: int = 20
    lengths: tuple[int, ...] = (512, 1024, 2048, 4096)
    noise: float = 0.04

    def __post_init__(self) -> None:
        if self.pictures < 2 or len(self.lengths) < 2:
            raise OptionError("two pictures and two lengths are the least", hint="--set pictures=300")


def measure(setting: Setting) -> Conditions:
    """Compare the forms, time them, and impose neighborhoods on the patches of a model.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: NeighborhoodSizes = setting.options
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    forms = agreement.forms_apart(12, (1, 3, 5, 12), seed=setting.seed)
    c.tables["How far gathered attention is from what it must equal"] = [
        {"beside": name, "largest difference": value} for name, value in forms.items()
    ]
    c.numbers |= {APART: max(forms["in a row"], forms["on a grid"]), **forms}
    work, seconds = (by(o.lengths, 32) for by in (agreement.work_by_length, agreement.seconds_by_length))
    c.tables["Counted work, two heads of 32, 32 keys"] = work
    c.tables["Seconds of the processor, two heads of 32, 32 keys"] = seconds
    for name in (ALL, GATHERED):
        c.numbers[f"{POWER}, seconds of {name}"] = agreement.power_of_length(seconds, name)
        for what in WORK:
            c.numbers[f"{POWER}, {what} of {name}"] = agreement.power_of_length(work, f"{name}, {what}")
    _impose(c, setting)
    return c


def _impose(c: Conditions, setting: Setting) -> None:
    """Right answers under neighborhoods of every width, and under random patches."""
    o, model = setting.options, setting.model
    drawn = drawn_pictures.draw_framed(model, n=o.pictures, seed=FIRST_SEED + setting.seed, noise=o.noise)
    layers, n, first = probe.wiring(model).attention_layers, drawn.sight.n_tokens, drawn.sight.first

    def right(allowed: Any) -> np.ndarray:
        edit = Mask(heads=tuple(f"a{layer}" for layer in layers), allowed=allowed)
        return drawn_pictures.rightly_named(model, drawn, edit.on(model))

    side = drawn.grid[0]
    found = {w: right(grids.grid_neighborhood(n, w, rows=side, before=first)) for w in range(1, side + 1)}
    c.tables["Right answers by width"] = [
        {"width": w, "patches of a patch": w * w, "right": float(one.mean())} for w, one in found.items()
    ]
    c[WHOLE], c[NEAR] = found[side], found[WIDTH]
    widths, values = np.array(list(found), dtype=float), np.stack(list(found.values()), axis=1)
    c.add(
        GAIN,
        np.array([slope(widths, one) for one in values]),
        unit="share of right answers per patch of width",
    )
    inner = grids.grid_neighborhood(n - first, WIDTH, rows=side)
    random = []
    for i in setting.each(range(o.draws), "random masks"):
        mask = grids.grid_neighborhood(n, WIDTH, rows=side, before=first).clone()
        mask[first:, first:] = derived.same_degree(inner, seed=1000 * setting.seed + i)
        random.append(right(mask))
    c.draws[RANDOM] = random


ABLE = [answers(WHOLE, LEARNED)]
OURS = "an extension of ours"
CLAIMS = {
    "forms": Defined(
        "attention over listed keys is that under the mask, in a row and on a grid",
        at_most(APART, CLOSE),
        why="float32 rounding of values of about 1",
    ),
    "one": Defined(
        "a neighborhood of one key is a linear projection",
        at_most("one key", 0),
        why="the value itself, to the last bit",
    ),
    "full": Defined(
        "a neighborhood of all keys is full attention",
        at_most("all keys", CLOSE),
        why="float32 rounding of values of about 1",
    ),
    "linear": Claim(
        "the work of neighborhood attention grows linearly with the length, as the paper says of its time",
        at_most(f"{POWER}, {WORK[0]} of {GATHERED}", LINEAR)
        & at_most(f"{POWER}, {WORK[1]} of {GATHERED}", LINEAR),
        why="the power of the length in counted work, 32 keys a query; 1 is linear. Seconds depend on what else runs",
        control=SECONDS.format(GATHERED),
        where="the cost of neighborhood attention",
        models=None,
    ),
    "quadratic": Claim(
        "the work of full attention grows quadratically with the length",
        at_least(f"{POWER}, {WORK[0]} of {ALL}", QUADRATIC) & at_least(f"{POWER}, {WORK[1]} of {ALL}", QUADRATIC),
        why="the same queries and keys; 2 is quadratic",
        control=SECONDS.format(ALL),
        where="a control of ours",
        models=None,
    ),
    "width": Claim(
        "imposed on a model trained without, wider neighborhoods keep more right answers",
        above(GAIN),
        why="the slope over all widths, picture by picture",
        where=OURS,
        needs=ABLE,
    ),
    "random": Claim(
        "nine patches around keep more than nine random ones",
        beats_draws(NEAR, RANDOM),
        why="as many patches for each; the class token sees all in both",
        where="a control of ours",
        needs=ABLE,
    ),
    "kernels": untried(
        "fused kernels are up to 16 times as fast as naive ones",
        "time of kernels in half precision on a graphics processor",
        "there is no graphics processor here, and no kernel for one",
        paper="about 16x on average, 1-D, half precision",
        where="main results",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="neighborhood",
        source="Hassani, Hwu and Shi 2024",
        model="zoo:marked",
        options=NeighborhoodSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
