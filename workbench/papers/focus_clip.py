"""Focus by heat maps: pictures and captions that are matched with a second branch which sees the subject alone.

Small towers over frozen patches of `zoo:marked` are trained to match a picture with the caption of its framed object,
such as *red star*. In one arm a second branch sees the same patches weighted by a heat map of that object. One of five
combinations of colour and shape is never trained; the towers are judged on these. Two trainings of each arm are
shipped; arms have equal starts, pictures and steps. Only the abstract of the paper was read. On another seed, seen
while this was written, a training with the heat map looked more at the subject and named no more of it.

Controls:
- the same training without the second branch
- a second branch with the heat map of another picture
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.heads.map_agreement import map_agreement
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import RECONSTRUCTED, room
from workbench.papers.kit.trained_arms import OfTrainings, in_each, of_training
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.training import focus_guidance

# Criteria, fixed before anything was measured.
LEARNED, ROOM = 0.5, 0.98
FIRST_SEED = 42_000_000  # pictures of this paper: no other seed of pictures is near
GUIDED, PLAIN, DEALT = "heat map of the subject", "no heat map", "heat map of another picture"


@dataclass(frozen=True, kw_only=True)
class FocusClipSizes(Sizes):
    """Pictures, and how towers are trained anew."""

    pictures: int = size(500, "of combinations that were never trained", least=4)
    retrain: bool = size(False, "train the towers anew, with seeds that no shipped one has")
    steps: int = size(400, "of a training anew")


def measure(setting: Setting) -> Conditions:
    """Judge towers that were trained with and without heat maps on combinations that none of them saw.

    Raises:
        ModelError: for a model that does not read pictures alone.
    """
    o, model = setting.options, setting.model
    c = Conditions(unit="share of colours and shapes named", within=SHARE, seed=setting.seed)
    if setting.name != focus_guidance.MODEL and not o.retrain:
        why = f"towers are shipped for {focus_guidance.MODEL}; --retrain trains those of {setting.name}"
        return Conditions(seed=setting.seed, why=why)
    guidance = focus_guidance.Guidance(steps=o.steps) if o.retrain else focus_guidance.Guidance()
    seeds = [1000 + 10 * setting.seed + i for i in range(2)] if o.retrain else focus_guidance.SEEDS
    how = {"retrain": o.retrain, "seeds": seeds, "guidance": guidance}
    arms = focus_guidance.towers(model, **how, progress=setting.progress)
    held = focus_guidance.draw_subjects(
        model, n=o.pictures, seed=FIRST_SEED + setting.seed, guidance=guidance, new=True
    )
    heat, own = held.heat.double().cpu().numpy(), held.shown.own.reshape(len(held), -1)
    first: dict[str, np.ndarray] = {}
    for arm in (GUIDED, PLAIN, DEALT):
        found = [focus_guidance.named_by(towers[arm], held) for towers in arms.values()]
        first[arm] = found[0][1][0].reshape(held.shown.grid)
        of = {
            "": (np.array([named for named, _ in found]), SHARE, ""),
            "agreement, ": (
                np.array([map_agreement(looks, heat) for _, looks in found]),
                (-1.0, 1.0),
                "correlation of look and heat map",
            ),
            "mass, ": (np.array([(looks * own).sum(1) for _, looks in found]), SHARE, "share of the look"),
        }
        for begin, (values, within, unit) in of.items():
            c.add(f"{begin}{arm}", values.mean(0), within=within, unit=unit)
            for i, each in enumerate(values):
                c.add(of_training(f"{begin}{arm}", i), each, within=within, unit=unit)
    caption = "Where the class token of each tower looks, first picture, first training"
    c.pictures[caption] = HeadMaps.of(
        np.stack(list(first.values()))[None],
        ["look"],
        list(first),
        pixels=held.shown.pixels[0],
        title=caption,
    )
    return c


READS = needs(
    at_least(PLAIN, LEARNED),
    f"without a heat map {{{PLAIN}:.0%}} of the attributes are named; half is asked for",
)
GAIN = room(PLAIN, ROOM, f"without a heat map {{{PLAIN}:.1%}} of the attributes are named")
CLAIMS = {
    "names": OfTrainings(
        "with the heat map more attributes of new combinations are named",
        in_each(above, GUIDED, PLAIN),
        why="equal starts, pictures and steps; the second branch alone is added",
        where=RECONSTRUCTED,
        needs=[READS, GAIN],
    ),
    "names, control": OfTrainings(
        "with the heat map more attributes are named than with heat maps of other pictures",
        in_each(above, GUIDED, DEALT),
        why="a second branch of any kind is a second loss; heat maps of other pictures show other places",
        where="a control of ours",
        needs=[READS, GAIN],
    ),
    "looks": OfTrainings(
        "attention agrees more with the heat map of the subject",
        in_each(above, f"agreement, {GUIDED}", f"agreement, {PLAIN}"),
        why="correlation over patches; judged without the second branch",
        where=RECONSTRUCTED,
        needs=[READS],
    ),
    "looks, control": OfTrainings(
        "attention agrees more with the subject's map than after maps of other pictures",
        in_each(above, f"agreement, {GUIDED}", f"agreement, {DEALT}"),
        why="as many patches are weighted in both",
        where="a control of ours",
        needs=[READS],
    ),
    "people": untried(
        "activities, ages and emotions of people in photographs are named without training",
        "accuracy on the benchmarks of the paper",
        "photographs of people, their poses and a CLIP of full size cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="focus-clip",
        source="FocusCLIP 2024",
        model="zoo:marked",
        options=FocusClipSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
