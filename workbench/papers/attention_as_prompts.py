"""Attention as prompts: attention rolled out through all layers says where a thing is, without any training.

The paper weighs heads, rolls their attention out through the layers, and takes points from the map as prompts for a
model that outlines things. In a causal model plain rollout gathers on early tokens; a regulariser is to keep it off
them. Only the abstract of the paper was read. Here the model is asked for the colour or the shape of one of two to
four objects, and the map is what has arrived at the last token from every patch. Whoever outlines things is taken to
be right: a point on an object gives that object.

Controls:
- the last layer's attention, heads averaged, and rollout without the regulariser
- the other objects of the picture, never its background
- heads that all weigh the same, and weights dealt to the heads of their layer at random
- a tower in which all positions see all (a row of a table)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.heads.localisation import best_iou, locate
from workbench.heads.map_points import points_of
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, beats_draws, below
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Reconstructed
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import asked_pictures, drawn_pictures, rolled_maps, weighted_rollout

# Criteria, fixed before anything was measured.
RIGHT = 0.9
FIRST_SEED = 35_000_000  # pictures of this paper: no other seed of pictures is near
FLOW, PLAIN, LAST, EVEN = "regularised flow", "plain rollout", "last layer's mean", "flow with heads alike"
TOWER = "zoo:marked"
DEALT = "pointing, weights dealt to other heads"
QUARTER = "even share of the first quarter"
OWN, OTHER = "regularised flow on the asked object", "regularised flow on another object"


@dataclass(frozen=True, kw_only=True)
class PromptSizes(Sizes):
    """Numbers of questions and of random draws."""

    questions: int = size(600, "each about one object of a picture", least=4)
    noise: float = size(0.04, "of pixels")
    points: int = size(4, "of a map", least=1)
    draws: int = size(40, "of weights dealt to other heads")


def measure(setting: Setting) -> Conditions:
    """Roll attention out in several ways, and see where each says that the asked object is.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    world, c = World(objects=(0, 1, 1, 1), noise=o.noise), Conditions(unit="share of maps", seed=setting.seed)
    asked = asked_pictures.ask_pictures(model, world, kinds=["colour", "shape"], n=o.questions, seed=seed)
    c.numbers["right"] = float(asked_pictures.answered(model, asked).mean())
    plain = partial(rolled_maps.flow, regularised=False)
    ways: dict[str, Any] = {FLOW: rolled_maps.flow, PLAIN: plain, LAST: rolled_maps.last_layer}
    ways[EVEN] = partial(rolled_maps.flow, alike=True)
    drawn = rolled_maps.rolled(model, asked.prompt, ways | rolled_maps.dealt_ways(o.draws, seed))
    rolled = {name: drawn.pop(name) for name in ways}
    even = rolled_maps.even_quarter(rolled[FLOW])
    c.add(QUARTER, np.full(o.questions, even), within=SHARE, unit="share of weight")
    maps = {name: rolled_maps.on_patches(asked, rows) for name, rows in rolled.items()}
    for name, rows in rolled.items():
        setting.progress(len(c.values), 5 * len(ways), name)
        c.add(f"early, {name}", weighted_rollout.early_mass(rows), within=SHARE, unit="share of weight")
        c[f"pointing, {name}"] = locate(maps[name], asked.own, asked.others).pointing
        overlap = best_iou(maps[name], asked.own)
        c.add(f"overlap, {name}", overlap, within=SHARE, unit="intersection over union")
        points = [points_of(each, o.points, seed=i).positive for i, each in enumerate(maps[name])]
        hits = [own[tuple(each.T)].mean() for own, each in zip(asked.own, points, strict=True)]
        c.add(f"points, {name}", np.array(hits), within=SHARE, unit="share of points")
    lies = locate(maps[FLOW], asked.own, asked.others)
    c.add(OWN, lies.lift, unit="weight of a patch, 1 for an even map")
    c.add(OTHER, lies.other_lift, unit="weight of a patch, 1 for an even map")
    others = [rolled_maps.on_patches(asked, rows) for rows in drawn.values()]
    c.draws[DEALT] = [locate(each, asked.own, asked.others).pointing for each in others]
    tower = setting.open(TOWER)
    shown = drawn_pictures.draw_pictures(tower, World(marked=True), n=rolled_maps.ROWS, seed=seed + 1)
    all_see = rolled_maps.rolled(tower, shown.prompt, {PLAIN: plain})[PLAIN]
    c.tables["Weight of plain rollout on the first quarter of positions"] = [
        {"patterns of": name, "weight": float(weighted_rollout.early_mass(rows).mean())}
        | {"even": rolled_maps.even_quarter(rows)}
        for name, rows in ((setting.name, rolled[PLAIN]), (f"{TOWER}, where all see all", all_see))
    ]
    caption = f"Where attention says that it is: {asked.questions[0].text}"
    first = np.stack([each[0] for each in maps.values()])[None]
    pixels = asked.scenes[0].pixels
    c.pictures[caption] = HeadMaps.of(first, ["first picture"], list(maps), pixels=pixels, title=caption)
    return c


ABLE = needs(at_least("right", RIGHT), "the model answers {right:.0%} of the questions; 90% is asked for")


def _better(what: str, measure: str, over: str) -> Claim:
    return Reconstructed(
        f"regularised flow {what} better than {'the ' if over == LAST else ''}{over}",
        above(f"{measure}, {FLOW}", f"{measure}, {over}"),
        why="the same questions, paired; the truth is on the model's own patches",
        needs=[ABLE],
    )


CLAIMS = {
    "collapse": Reconstructed(
        "plain rollout collapses to early tokens in a causal model",
        above(f"early, {PLAIN}", QUARTER),
        why="an even map has on the first quarter of positions what they are of all",
    ),
    "repaired": Reconstructed(
        "the regulariser takes weight off early tokens",
        below(f"early, {FLOW}", f"early, {PLAIN}"),
        why="the same patterns, paired; whether maps become better is asked below",
    ),
    "wholly": Control(
        "the regulariser leaves early tokens no more than their even share",
        below(f"early, {FLOW}", QUARTER),
        why="less than without it is nearly its definition; no more than the even share is not",
    ),
    "pointing, last": _better("points at the asked object", "pointing", LAST),
    "overlap, last": _better("overlaps with it", "overlap", LAST),
    "pointing, plain": _better("points at the asked object", "pointing", PLAIN),
    "overlap, plain": _better("overlaps with it", "overlap", PLAIN),
    "points": _better("gives points that lie on it", "points", PLAIN),
    "others": Control(
        "regularised flow lies on the asked object more than on the others",
        above(OWN, OTHER),
        why="weight of a patch, by size; any map may prefer objects to background",
        needs=[ABLE],
    ),
    "weights": Reconstructed(
        "the flow points better with heads weighed by how sharply they look than with heads alike",
        above(f"pointing, {FLOW}", f"pointing, {EVEN}"),
        why="the weights alone differ",
        needs=[ABLE],
    ),
    "dealt": Reconstructed(
        "the flow points better with a head's own weight than with that of another head of the layer",
        beats_draws(f"pointing, {FLOW}", DEALT),
        why="weights as uneven as these, on random heads",
        where="a control of ours",
        needs=[ABLE],
    ),
    "photographs": untried(
        "objects of any kind are found and outlined in photographs without training",
        "detection on LVIS and segmentation on CODA",
        "photographs, a model of seven billion weights and one that outlines things cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="attention-as-prompts",
        source="VL-SAM 2024",
        model="zoo:vlm",
        options=PromptSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
