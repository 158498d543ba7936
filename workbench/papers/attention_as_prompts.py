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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.heads.localisation import best_iou, locate
from workbench.heads.map_points import points_of
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, beats_draws, below
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import asked_pictures, drawn_pictures, observe, weighted_rollout

# Criteria, fixed before anything was measured.
RIGHT, ROWS = 0.9, 128
FIRST_SEED = 35_000_000  # pictures of this paper: no other seed of pictures is near
FLOW, PLAIN, LAST, EVEN = "regularised flow", "plain rollout", "last layer's mean", "flow with heads alike"
TOWER = "zoo:marked"
DEALT = "pointing, weights dealt to other heads"
QUARTER = "even share of the first quarter"
OWN, OTHER = "regularised flow on the asked object", "regularised flow on another object"
RECONSTRUCTED = "abstract, reconstructed"


@dataclass(frozen=True, kw_only=True)
class PromptSizes:
    """Sizes: questions, each about one object of a picture; points of a map; draws of weights dealt to other heads."""

    questions: int = 600
    noise: float = 0.04
    points: int = 4
    draws: int = 40

    def __post_init__(self) -> None:
        if self.questions < 4 or self.points < 1:
            raise OptionError("four questions and one point are the least", hint="--set questions=100")


def _flow(patterns: Mapping[int, Any], *, regularised: bool = True, alike: bool = False, dealt=None) -> Any:
    """Attention rolled out; heads weigh what they do, all the same, or what another head of their layer does."""
    weights = [weighted_rollout.sharpness(patterns[n]) for n in sorted(patterns)]
    if alike:
        weights = [each.mean(1, keepdim=True).expand_as(each) for each in weights]
    if dealt is not None:
        weights = [each[:, dealt.permutation(each.shape[1])] for each in weights]
    return weighted_rollout.weighted_rollout(patterns, regularised=regularised, weights=weights)


WAYS: dict[str, Callable[..., Any]] = {
    FLOW: _flow,
    PLAIN: partial(_flow, regularised=False),
    LAST: lambda patterns: patterns[max(patterns)].mean(1),
    EVEN: partial(_flow, alike=True),
}


def measure(setting: Setting) -> Conditions:
    """Roll attention out in several ways, and see where each says that the asked object is.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: PromptSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    world, c = World(objects=(0, 1, 1, 1), noise=o.noise), Conditions(unit="share of maps", seed=setting.seed)
    asked = asked_pictures.ask_pictures(model, world, kinds=["colour", "shape"], n=o.questions, seed=seed)
    c.numbers["right"] = float(asked_pictures.answered(model, asked).mean())
    dealt = {str(i): partial(_flow, dealt=np.random.default_rng([seed, i])) for i in range(o.draws)}
    drawn = _rolled(model, asked.prompt, WAYS | dealt)
    rolled = {name: drawn.pop(name) for name in WAYS}
    maps = {name: _maps(asked, rows) for name, rows in rolled.items()}
    c.add(QUARTER, np.full(o.questions, _quarter(rolled[FLOW])), within=SHARE, unit="share of weight")
    for name, rows in rolled.items():
        setting.progress(len(c.values), 5 * len(WAYS), name)
        c.add(f"early, {name}", weighted_rollout.early_mass(rows), within=SHARE, unit="share of weight")
        c[f"pointing, {name}"] = locate(maps[name], asked.own, asked.others).pointing
        c.add(
            f"overlap, {name}", best_iou(maps[name], asked.own), within=SHARE, unit="intersection over union"
        )
        points = [points_of(each, o.points, seed=i).positive for i, each in enumerate(maps[name])]
        hits = [own[tuple(each.T)].mean() for own, each in zip(asked.own, points, strict=True)]
        c.add(f"points, {name}", np.array(hits), within=SHARE, unit="share of points")
    lies = locate(maps[FLOW], asked.own, asked.others)
    c.add(OWN, lies.lift, unit="weight of a patch, 1 for an even map")
    c.add(OTHER, lies.other_lift, unit="weight of a patch, 1 for an even map")
    c.draws[DEALT] = [locate(_maps(asked, rows), asked.own, asked.others).pointing for rows in drawn.values()]
    tower = setting.open(TOWER)
    shown = drawn_pictures.draw_pictures(tower, World(marked=True), n=ROWS, seed=seed + 1)
    c.tables["Weight of plain rollout on the first quarter of positions"] = [
        {
            "patterns of": name,
            "weight": float(weighted_rollout.early_mass(rows).mean()),
            "even": _quarter(rows),
        }
        for name, rows in (
            (setting.name, rolled[PLAIN]),
            (f"{TOWER}, where all see all", _rolled(tower, shown.prompt, {PLAIN: WAYS[PLAIN]})[PLAIN]),
        )
    ]
    caption = f"Where attention says that it is: {asked.questions[0].text}"
    first = np.stack([each[0] for each in maps.values()])[None]
    pixels = asked.scenes[0].pixels
    c.pictures[caption] = HeadMaps.of(first, ["first picture"], list(maps), pixels=pixels, title=caption)
    return c


def _rolled(model, prompt, ways: Mapping[str, Callable[..., Any]]) -> dict[str, np.ndarray]:
    """What arrives at the last token from every position: ``(row, position)``, in float64, in every way."""
    seen = [observe.patterns_of(model, part).patterns for part in prompt.split(ROWS)]
    return {
        name: np.concatenate([way(patterns)[:, -1].double().cpu().numpy() for patterns in seen])
        for name, way in ways.items()
    }


def _maps(asked: asked_pictures.AskedPictures, rows: np.ndarray) -> np.ndarray:
    return rows[:, list(asked.image)].reshape(len(asked), *asked.grid) + 1e-12  # of nothing, an even map


def _quarter(rows: np.ndarray) -> float:
    return int(rows.shape[1] / 4) / rows.shape[1]


ABLE = needs(at_least("right", RIGHT), "the model answers {right:.0%} of the questions; 90% is asked for")


def _better(what: str, measure: str, over: str) -> Claim:
    return Claim(
        f"regularised flow {what} better than {'the ' if over == LAST else ''}{over}",
        above(f"{measure}, {FLOW}", f"{measure}, {over}"),
        why="the same questions, paired; the truth is on the model's own patches",
        where=RECONSTRUCTED,
        needs=[ABLE],
    )


CLAIMS = {
    "collapse": Claim(
        "plain rollout collapses to early tokens in a causal model",
        above(f"early, {PLAIN}", QUARTER),
        why="an even map has on the first quarter of positions what they are of all",
        where=RECONSTRUCTED,
    ),
    "repaired": Claim(
        "the regulariser takes weight off early tokens",
        below(f"early, {FLOW}", f"early, {PLAIN}"),
        why="the same patterns, paired; whether maps become better is asked below",
        where=RECONSTRUCTED,
    ),
    "wholly": Claim(
        "and leaves them no more than their even share",
        below(f"early, {FLOW}", QUARTER),
        why="less than without it is nearly its definition; no more than the even share is not",
        where="a control of ours",
    ),
    "pointing, last": _better("points at the asked object", "pointing", LAST),
    "overlap, last": _better("overlaps with it", "overlap", LAST),
    "pointing, plain": _better("points at the asked object", "pointing", PLAIN),
    "overlap, plain": _better("overlaps with it", "overlap", PLAIN),
    "points": _better("gives points that lie on it", "points", PLAIN),
    "others": Claim(
        "regularised flow lies on the asked object more than on the others",
        above(OWN, OTHER),
        why="weight of a patch, by size; any map may prefer objects to background",
        where="a control of ours",
        needs=[ABLE],
    ),
    "weights": Claim(
        "it points better with heads weighed by how sharply they look than with heads alike",
        above(f"pointing, {FLOW}", f"pointing, {EVEN}"),
        why="the weights alone differ",
        where=RECONSTRUCTED,
        needs=[ABLE],
    ),
    "dealt": Claim(
        "and better than with the weights of other heads of the layer",
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
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="attention-as-prompts",
        title="Training-Free Open-Ended Object Detection and Segmentation via Attention as Prompts",
        source="VL-SAM 2024",
        model="zoo:vlm",
        options=PromptSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
