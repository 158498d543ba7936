"""Suppress and peak: a head that points learns better from two losses than from a box filled evenly.

A small pointing head over frozen patches gives a map; the patch with most weight is where it clicks. One loss takes
mass away from outside the target, the other wants a Gaussian on its middle, as wide as the target. The target is
the object in the white frame, beside one to three others. Only the abstract of the paper was read. Patches are
those after the first layer, and pixel noise is 0.25: with less noise every head hits the target in nearly all
pictures; the table has those settings too. Heads are trained on some pictures and judged on others, with two seeds
each.

Controls:
- the same head trained on a box filled evenly
- one of the two losses alone
- both losses with the boxes of other pictures
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Reconstructed, room
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import pointing_task

# Criteria, fixed before anything was measured.
LEARNED, ROOM, SEEDS = 0.5, 0.99, (0, 1)
FIRST_SEED = 39_000_000  # pictures of this paper: no other seed of pictures is near
BOTH, EVEN, PEAK, SUPPRESSION, DEALT = (
    "suppression and peak",
    "a box filled evenly",
    "peak alone",
    "suppression alone",
    "boxes of other pictures",
)


@dataclass(frozen=True, kw_only=True)
class PointingSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(400, "pictures that heads are trained on", least=2)
    pictures: int = size(600, "others that they are judged on", least=2)
    layer: int = size(0, "after which patches are read")
    noise: float = size(0.25, "of pixels")
    beside: tuple[float, ...] = size((0.04, 0.12), "further noises, rows of a table")
    steps: int = size(300, "of training")


def measure(setting: Setting) -> Conditions:
    """Train a pointing head with every loss, and see where it clicks on other pictures.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o, steps = setting.options, setting.options.steps
    sizes = {"training": o.training, "pictures": o.pictures, "layer": o.layer}
    seeds = {"seed": FIRST_SEED + setting.seed, "dealing": setting.seed}
    c, rows = Conditions(unit="share of clicks on the target", within=SHARE, seed=setting.seed), []
    for i, noise in enumerate((*o.beside, o.noise)):
        setting.progress(i, 1 + len(o.beside), f"noise {noise:g}")
        task = pointing_task.PointingTask(setting.model, noise, **sizes, **seeds)
        for name, loss in task.losses().items():
            trained = SEEDS if noise == o.noise else SEEDS[:1]
            found = [task.clicks(loss, steps=steps, seed=seed) for seed in trained]
            hits, apart, outside = (np.mean(each, axis=0) for each in zip(*found, strict=True))
            rows.append(
                {
                    "noise": noise,
                    "trained on": name,
                    "hits": float(hits.mean()),
                    "distance, patches": float(apart.mean()),
                    "mass outside": float(outside.mean()),
                }
            )
            if noise == o.noise:
                c[f"hits, {name}"] = hits
                c.add(f"distance, {name}", apart, unit="patches from the middle of the target")
    c.tables["Every setting"] = rows
    names = (BOTH, EVEN, PEAK, SUPPRESSION)
    pointed = [task.maps(task.losses()[name], steps=steps, seed=SEEDS[0]) for name in names]
    maps = np.stack([each[0].double().cpu().numpy() for each in pointed])
    caption = "Where the heads point, on the first picture"
    pixels = task.shown.pixels[o.training]
    c.pictures[caption] = HeadMaps.of(maps[None], ["weight"], list(names), pixels=pixels, title=caption)
    return c


FIT = needs(
    at_least(f"hits, {EVEN}", LEARNED),
    f"trained on a box filled evenly the head hits {{hits, {EVEN}:.0%}} of the targets; half is asked for",
)
GAIN = room(
    f"hits, {EVEN}", ROOM, f"trained on a box filled evenly the head hits {{hits, {EVEN}:.1%}} of the targets"
)
CLAIMS = {
    "learned": Control(
        "the head learns where the target is",
        above(f"hits, {BOTH}", f"hits, {DEALT}"),
        why="with the boxes of other pictures there is nothing to learn but where targets are on average",
    ),
    "hits": Reconstructed(
        "suppression and peak hit more targets than a box filled evenly",
        above(f"hits, {BOTH}", f"hits, {EVEN}"),
        why="an even label rewards the edge of a target as much as its middle",
        needs=[FIT, GAIN],
    ),
    "distance": Reconstructed(
        "suppression and peak click nearer to the middle than a box filled evenly",
        below(f"distance, {BOTH}", f"distance, {EVEN}"),
        why="the middle is what the peak is for; a hit alone does not tell",
        needs=[FIT],
    ),
    "peak": Reconstructed(
        "without the peak clicks are farther from the middle",
        above(f"distance, {SUPPRESSION}", f"distance, {BOTH}"),
        why="the loss is removed and nothing else",
        needs=[FIT],
    ),
    "suppression": Reconstructed(
        "without the suppression fewer targets are hit",
        below(f"hits, {PEAK}", f"hits, {BOTH}"),
        why="the loss is removed and nothing else; mass outside would fall by the loss's own definition",
        needs=[FIT],
    ),
    "screens": untried(
        "grounding in pictures of user interfaces improves",
        "hit rate on the benchmarks of the paper",
        "screens and a model that reads them cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="suppress-and-peak",
        source="V2P 2025",
        model="zoo:marked",
        options=PointingSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
