"""Codebook bottleneck: what is seen passes as a mix of a few codes that are chosen with the task in mind.

A seeker says in which cell of a picture the thing of the asked color stands, from frozen patches that it fuses with
the task. What it has seen passes a bottleneck of sixteen numbers: a mix of codes, or the sixteen numbers themselves.
Only a summary of the paper was read; its agents walk through rooms, ours look at drawn pictures. All seekers start
alike and are trained side by side on the same pictures, with two seeds, anew in every run. Rate and steps were chosen
on other pictures, where after 300 steps .80 were right with codes, .93 without a bottleneck and .27 with codes that
know no task.

Controls:
- the same seeker without codes, and with codes that are chosen before the task is known
- asked for a color of another picture
- a probe that is trained on the cells of other pictures
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below
from workbench.papers.kit.frames import Control
from workbench.papers.kit.trained_arms import TRAININGS, add_each_training, in_each
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.training import codebook

# Criteria, fixed before anything was measured.
LEARNED, ROOM = 0.8, 0.98
FIRST_SEED = 47_000_000  # pictures of this paper: no other seed of pictures is near
CODES, OPEN, BLIND = "codes", "no bottleneck", "codes without the task"
DEALT = "codes, another color asked"
HALF, SHIFTED = "half of the steps, {}", "more things, {}"
KEPT, OTHER, CHANCE = "probe of the asked cell, {}", "probe of another thing's cell, {}", "codes, dealt cells"


@dataclass(frozen=True, kw_only=True)
class CodebookSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(
        1500, "pictures drawn to train on; those where others share the color are left out", least=20
    )
    pictures: int = size(800, "others drawn to judge on", least=20)
    shifted: int = size(1200, "pictures of five and six things drawn to judge on", least=20)
    codes: int = size(64, "codes", least=1)
    layer: int = size(1, "after which patches are read")
    noise: float = size(0.04, "of pixels")
    steps: int = size(400, "of training", least=2)


def measure(setting: Setting) -> Conditions:
    """Train seekers with and without codes, twice; judge them halfway and in the end, and probe what passes.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: CodebookSizes = setting.options
    c = Conditions(unit="share of pictures", within=SHARE, seed=setting.seed)
    first = FIRST_SEED + 10 * setting.seed
    draw = partial(codebook.draw_sought, setting.model, layer=o.layer)
    few, many = (
        World(objects=objects, alike=0.0, noise=o.noise) for objects in ((0, 1, 1), (0, 0, 0, 0, 1, 1))
    )
    seen, raw = draw(few, n=o.training, seed=first)
    judged, _ = draw(few, n=o.pictures, seed=first + 1, like=raw)
    shifted, _ = draw(many, n=o.shifted, seed=first + 2, like=raw)
    found: list[dict[str, np.ndarray]] = []
    entropies = []
    for i in setting.each(range(TRAININGS), "trainings"):
        seed = 100 * setting.seed + i
        arms, half = codebook.train_seekers(
            seen, (CODES, OPEN, BLIND), codes=o.codes, steps=o.steps, seed=seed, halfway=judged
        )
        values = {HALF.format(name): right for name, right in half.items()}
        for name, arm in arms.items():
            values[name] = codebook.found_right(arm, judged)
            values[SHIFTED.format(name)] = codebook.found_right(arm, shifted)
        order = derangement(len(judged.cell), np.random.default_rng([47, setting.seed, i]))
        values[DEALT] = codebook.found_right(arms[CODES], judged, judged.task[order])
        probed = codebook.probe_seekers(arms, seen, judged, dealt=CODES, seed=seed)
        for name in arms:
            values[KEPT.format(name)], values[OTHER.format(name)] = probed.asked[name], probed.other[name]
        values[KEPT.format(CHANCE)] = probed.dealt
        found.append(values)
        entropies.append({n: codebook.use_of_codes(arms[n], judged) for n in (CODES, BLIND)})
    add_each_training(c, found, within=SHARE, unit=c.unit)
    c.tables["Entropy of the use of codes, nats"] = [
        {"training": i + 1, **row} for i, row in enumerate(entropies)
    ]
    return c


FIT = needs(
    at_least(OPEN, LEARNED), f"without a bottleneck {{{OPEN}:.0%}} are right in the end; 80% is asked for"
)
SUMMARY = "summary, reconstructed"
CLAIMS = {
    "task": Control(
        "the seeker with codes follows the task",
        in_each(above, CODES, DEALT),
        why="the same seeker is asked for the color of another picture's thing",
        models=2,
    ),
    "faster": Claim(
        "with codes more is right after half of the training than without a bottleneck",
        in_each(above, HALF.format(CODES), HALF.format(OPEN)),
        why="same start, pictures and width of what passes; 200 of 400 steps by default",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "shifted": Claim(
        "with codes more is right in pictures with more things than without a bottleneck",
        in_each(above, SHIFTED.format(CODES), SHIFTED.format(OPEN)),
        why="five and six things, where training had two and three",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "conditioned": Claim(
        "codes that are chosen with the task are better than codes chosen without it",
        in_each(above, CODES, BLIND),
        why="as many codes; the task is told behind the bottleneck in both",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "keeps": Control(
        "what passes as codes keeps where the asked thing is",
        in_each(above, KEPT.format(CODES), KEPT.format(CHANCE)),
        why="a linear probe, against the same probe trained on cells of other pictures",
        needs=[FIT],
        models=2,
    ),
    "drops": Claim(
        "codes keep less of where another thing is than no bottleneck does",
        in_each(below, OTHER.format(CODES), OTHER.format(OPEN)),
        why="a linear probe of the cell of the second thing that was drawn; the same width",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "drops, task": Control(
        "codes chosen with the task keep less of where another thing is than codes chosen without it",
        in_each(below, OTHER.format(CODES), OTHER.format(BLIND)),
        why="these have to hold whatever may be asked",
        needs=[FIT],
        models=2,
    ),
    "agents": untried(
        "agents that walk through rooms reach their goals more often, and with shorter training",
        "success and path length on the benchmarks of the paper",
        "simulated rooms and agents that act in them cannot be had here",
        where=SUMMARY,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="codebook-bottleneck",
        source="Selective Visual Representations 2023",
        model="zoo:marked",
        options=CodebookSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
