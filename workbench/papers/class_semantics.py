"""Class semantics: channels gated by what class a clip seems to be of, for finding an action in time.

A clip has twelve frames; in some of them the first object changes its color, its size, its shape or its place from
frame to frame, and another object changes once, which is no action. A finder reads frozen features of frames and
their changes, and says in every frame which action goes on. Its channels are gated by what class the whole clip seems
to be of. Only a summary of the paper was read. All finders start alike and are trained side by side on the same
clips, with two seeds, anew in every run. Steps and clips were chosen on other clips, where in one training .80 were
found without a gate, .82 with squeeze and excitation, .78 with the class gate and .81 with both.

Controls:
- no gate, and gates from the mean of the channels (squeeze and excitation)
- the class of other clips as what the gate learns
- what is found in another clip
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.heads.class_importance import class_importance
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import Control, room
from workbench.papers.kit.trained_arms import TRAININGS, add_each_training, in_each
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.action_clips import CHANGES
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import Heatmap

with lazily():
    from workbench.training import class_gates, side_by_side

# Criteria, fixed before anything was measured.
LEARNED, ROOM = 0.3, 0.95
FIRST_SEED = 48_000_000  # clips of this paper: no other seed of pictures is near
FRAMES = 12
NONE, EXCITATION, CLASS, BOTH = "no gate", "squeeze and excitation", "class gate", "class gate and excitation"
DEALT, RANDOM = "class gate, classes of other clips", "a random action and segment"
GATES: dict[str, Any] = {NONE: "none", EXCITATION: "excitation", CLASS: "class", BOTH: "both", DEALT: "class"}


@dataclass(frozen=True, kw_only=True)
class ClipSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(400, "clips that finders are trained on", least=4)
    clips: int = size(300, "others that they are judged on", least=4)
    layer: int = size(1, "after which patches are read")
    noise: float = size(0.04, "of pixels")
    steps: int = size(400, "of training", least=1)


def measure(setting: Setting) -> Conditions:
    """Train finders with every gate, twice, and count the actions that are found and named.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: ClipSizes = setting.options
    c = Conditions(unit="share of clips", within=SHARE, seed=setting.seed)
    world, first = World(objects=(0, 1, 1, 1), noise=o.noise), FIRST_SEED + 10 * setting.seed
    draw = partial(class_gates.draw_clips, setting.model, world, frames=FRAMES, layer=o.layer)
    seen, judged = draw(n=o.training, seed=first), draw(n=o.clips, seed=first + 1)
    frames, others = class_gates.scaled_frames([seen, judged])
    found: list[dict[str, np.ndarray]] = []
    for i in setting.each(range(TRAININGS), "trainings"):
        seed = 100 * setting.seed + i
        arms = _trained(frames, seen, o, seed=seed)
        values = {name: class_gates.found_actions(arm, others, judged.clips) for name, arm in arms.items()}
        order = derangement(o.clips, np.random.default_rng([48, seed]))
        values[RANDOM] = class_gates.found_actions(arms[NONE], others[order], judged.clips)
        found.append(values)
    add_each_training(c, found, within=SHARE, unit=c.unit)
    gates = class_gates.gates_of(arms[CLASS], others)
    caption = "How far channels are gated for each action, in standard deviations"
    by_class = class_importance(gates, judged.clips.action, n=len(CHANGES))
    names = [f"channel {i}" for i in range(by_class.shape[1])]
    c.pictures[caption] = Heatmap.of(by_class, list(CHANGES), names, title=caption, show_values=False)
    return c


def _trained(frames: Any, seen: Any, o: ClipSizes, *, seed: int) -> dict[str, Any]:
    """All finders of one seed."""
    width, own = frames.shape[-1], seen.labels.new_tensor(seen.clips.action)
    dealt = own[derangement(o.training, np.random.default_rng([48, seed, 1]))]
    arms = side_by_side.begin_alike(
        {name: partial(class_gates.ActionFinder, width, gate) for name, gate in GATES.items()}, seed=seed
    )

    def loss(name: str, arm: Any, items: Any) -> Any:
        action = (dealt if name == DEALT else own)[items]
        return class_gates.action_loss(arm, frames[items], seen.labels[items], action)

    side_by_side.step_alike(arms, loss, items=o.training, steps=o.steps, seed=seed)
    return arms


FIT = needs(
    at_least(NONE, LEARNED), f"without a gate {{{NONE}:.0%}} of the actions are found; 30% is asked for"
)
GAIN = room(NONE, ROOM, f"without a gate {{{NONE}:.1%}} of the actions are found")
SUMMARY = "summary, reconstructed"


def _better(name: str, over: str, says: str, why: str) -> Claim:
    return Claim(says, in_each(above, name, over), why=why, where=SUMMARY, needs=[FIT, GAIN], models=2)


CLAIMS = {
    "learned": Control(
        "actions are found by what is seen in the clip",
        in_each(above, NONE, RANDOM),
        why="against what is found in another clip: actions and lengths that are frequent",
        models=2,
    ),
    "gate": _better(
        CLASS,
        NONE,
        "a gate from the class finds more actions than none",
        "named rightly and with half of the frames of either in common; same start and clips",
    ),
    "excitation": _better(
        CLASS,
        EXCITATION,
        "a gate from the class finds more actions than squeeze and excitation",
        "gates from the mean of the channels; the class is learned beside both",
    ),
    "complementary": Claim(
        "both gates together find more than each alone",
        in_each(above, BOTH, CLASS) & in_each(above, BOTH, EXCITATION),
        why="the class gate and squeeze and excitation, one after the other",
        where=SUMMARY,
        needs=[FIT, GAIN],
        models=2,
    ),
    "dealt": Control(
        "the class has to be that of the clip",
        in_each(above, CLASS, DEALT),
        why="the same gate, whose classes in training are those of other clips",
        needs=[FIT],
        models=2,
    ),
    "videos": untried(
        "with it detectors of actions in videos are better",
        "mean average precision on the benchmarks of the paper",
        "videos and detectors of their size cannot be had here",
        where=SUMMARY,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="class-semantics",
        source="Class Semantics 2021",
        model="zoo:marked",
        options=ClipSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
