"""PowerAttention: seven keys at distances that double, and every token is reached.

A query looks at itself and at distances 1, 2, 4, 8, ... Only a summary of the paper was read: after n layers all
distances below 2^n are reached without a gap, and models trained so do better at long range than with static masks of
the same number of keys. Four layers of attention alone are trained on rows of 64 tokens. One word stands somewhere
among fillers, and every later token is asked for it, so that accuracy by distance shows what was reached. All arms
start alike and see the same batches, two seeds each. The masks are also imposed on a model that was trained without.

Controls:
- a window and a dilated window in which every query has as many keys
- random keys, as many for every query
- all keys, the reference
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.masks import sequences
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import above, at_least, at_most, no_worse
from workbench.papers.kit.trained_arms import (
    TRAININGS,
    Trained,
    TrainedSizes,
    add_arms,
    arms_for,
    in_each,
    of_training,
)
from workbench.papers.options import size
from workbench.papers.registry import add_paper
from workbench.view.pictures import Curves

with lazily():
    from workbench.edits import mask_worth, pattern_worth
    from workbench.masks import reachable

# Criteria, fixed before anything was measured.
NEARLY = 0.02
FIRST_SEED = 25_000_000  # rows of this paper: no other seed of rows is near
FAR, NEAR = (40, 60), (1, 7)
ALL, POWERS, WINDOW, DILATED, RANDOM = "all keys", "powers of two", "window", "dilated", "random keys"
SAID = (3, 7, 15, 31, 63, 127, 255, 256)  # tokens without a gap, of 256, after 1 to 8 layers
REACHED, LEFT = "depths at which the reach is as said", "tokens that a window reaches after eight layers"


@dataclass(frozen=True, kw_only=True)
class PowerSizes(TrainedSizes):
    """How much is asked."""

    rows: int = size(400, "on which trained arms are judged")
    pairs: int = size(64, "on which masks are imposed on the model; 0 imposes none")


def measure(setting: Setting) -> Conditions:
    """Count what is reached, ask the trained arms by distance, and impose the masks on a model trained without."""
    o: PowerSizes = setting.options
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    _reach(c)
    arms, asked = arms_for(setting, "power", first_seed=FIRST_SEED)
    rows: Any = asked  # of `passkeys`, which say how far their answers stand
    add_arms(c, arms, asked)
    for band, (low, high) in {"far": FAR, "near": NEAR}.items():
        _only(c, list(arms.comparison.arms), rows, band, (rows.distance >= low) & (rows.distance <= high))
    _by_distance(c, list(arms.comparison.arms), rows)
    if o.pairs:
        c.tables["Imposed on the model, without training"] = _imposed(setting)
    return c


def _only(c: Conditions, arms: list[str], rows: Any, band: str, among: np.ndarray) -> None:
    """Right answers at some distances alone."""
    clusters = rows.asked[0][among].tolist()
    for arm in arms:
        names = {
            f"{arm}, {band}": arm,
            **{of_training(f"{arm}, {band}", i): of_training(arm, i) for i in range(TRAININGS)},
        }
        for name, whole in names.items():
            c.add(name, c[whole][among], within=SHARE, unit="share of right answers", clusters=clusters)


def _reach(c: Conditions) -> None:
    """Tokens that 1, 2, ... layers of each mask reach, of 256, with nine keys a query."""
    n, keys = 256, 9
    masks = {
        POWERS: sequences.at_distances(n, [0, 1, 2, 4, 8, 16, 32, 64, 128]),
        WINDOW: sequences.window(n, keys),
        DILATED: sequences.dilated(n, keys),
    }
    rows = reachable.reach_rows(masks, len(SAID))
    c.tables["Tokens that the last of 256 reaches, nine keys a query"] = rows
    gaps = {name: [row["without a gap"] for row in rows if row["mask"] == name] for name in masks}
    c.tell(REACHED, sum(a == b for a, b in zip(gaps[POWERS], SAID, strict=True)), control=0, n=len(SAID))
    c.tell(LEFT, gaps[WINDOW][-1], control=gaps[POWERS][-1], n=n)


def _by_distance(c: Conditions, arms: list[str], rows: Any) -> None:
    """A curve for each arm."""
    lines = []
    for low, high in pairwise((1, 4, 8, 16, 24, 32, 40, 50, 64)):
        at = (rows.distance >= low) & (rows.distance < high)
        lines.append({"distance": low, **{arm: float(c[arm][at].mean()) for arm in arms}})
    c.tables["Right answers by distance, from this one to the next"] = lines
    c.pictures["Right answers by distance"] = Curves.of_rows(
        lines, "distance", arms, x_label="distance of the word, tokens", y_label="share of right answers"
    )


def _imposed(setting: Setting) -> list[dict[str, Any]]:
    """The metric of a task under masks that the model was not trained with, beside random ones."""
    texts = pattern_worth.texts_of_task(setting.model, TASK, n=setting.options.pairs, seed=setting.seed)
    keys = int(reachable.degree(sequences.powers_of_two(max(texts.lengths)))[-1])
    masks = ["powers-of-two", f"window:{keys}", f"dilated:{keys}"]
    table = mask_worth.mask_attention(texts, masks, controls=2, seed=setting.seed)
    kept = ("mask", "keys", "measure", "without", "with", "difference", "low", "high", "n")
    return [{name: row.get(name) for name in kept} for row in table.rows]


TASK = "kv-retrieval"
SUMMARY = "summary, reconstructed"
CLAIMS = {
    "reach": Claim(
        "after n layers every distance below 2^n is reached, without a gap",
        at_least(REACHED, len(SAID)),
        why="a count, not an estimate: products of the mask with itself",
        where=SUMMARY,
        models=None,
    ),
    "window-reach": Claim(
        "a window of as many keys reaches a quarter of what powers of two reach",
        at_most(LEFT, 65),
        why="nine keys a query and eight layers; 256 tokens are there",
        where=SUMMARY,
        models=None,
    ),
    "window": Trained(
        "trained from scratch, powers of two answer at long distance where a window does not",
        in_each(above, f"{POWERS}, far", f"{WINDOW}, far"),
        paper="5 to 40% better than static sparse masks",
        why="words 40 to 60 tokens back; as many keys a query; rows are drawn together",
        where=SUMMARY,
    ),
    "dilated": Trained(
        "powers of two answer at long distance where a dilated window does not",
        in_each(above, f"{POWERS}, far", f"{DILATED}, far"),
        paper="5 to 40% better than static sparse masks",
        why="the same; a dilated window of step 2 never sees odd distances",
        where=SUMMARY,
    ),
    "random": Trained(
        "powers of two answer at long distance more often than random keys, as many for every query",
        in_each(above, f"{POWERS}, far", f"{RANDOM}, far"),
        why="random keys of this degree reach everything, too, by ways that are not alike everywhere",
        where="a control of ours",
    ),
    "near": Trained(
        "powers of two do not give up near distances",
        in_each(no_worse, f"{POWERS}, near", f"{WINDOW}, near", within=NEARLY),
        why="words up to 7 tokens back, which the window sees directly",
        where="an extension of ours",
    ),
    "all": Trained(
        "over all distances powers of two are nearly as good as all keys",
        in_each(no_worse, POWERS, ALL, within=NEARLY),
        why="within two points in a hundred, interval included",
        where=SUMMARY,
    ),
    "speed": untried(
        "generation at 128,000 tokens is three times as fast",
        "end-to-end time of a model with a kernel for its mask",
        "models and prompts of that size cannot be had here; `benchmarks.mask_speed` has the times of gathers",
        paper="3.0x",
        where=SUMMARY,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="power-attention",
        title="PowerAttention: Exponentially Scaling of Receptive Fields for Effective Sparse Attention",
        source="Chen et al. 2025",
        model="zoo:kv",
        options=PowerSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
