"""Intention and focus: a policy learns by the reward of right answers alone which region of a picture to look at.

The model is asked for color or shape of one of two to four tiny objects. Before it answers, a policy that sees
patches and question chooses one of sixteen windows of half the picture's side, which is shown enlarged. No box is
used in training: the reward is a right answer. Only a summary of the paper was read. Policies are trained on some
questions and judged on others, with two seeds, anew in every run. Pixel noise is 0.04, where a window around the
object is worth more than the picture (where-to-look). Rate and steps were chosen on other pictures, where a policy
hit .54 and the model was right in .67 with its windows, .81 without.

Controls:
- the same policy, with the rewards of other questions
- a window at random
- no region: the picture as it is
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.evaluate.focus_agreement import focus_agreement
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import Control, Extension, room
from workbench.papers.kit.trained_arms import TRAININGS, add_trainings, in_each, of_training
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import DESCRIBE

with lazily():
    from workbench.heads import asked_maps, asked_pictures
    from workbench.training import region_policy, side_by_side

# Criteria, fixed before anything was measured.
USEFUL, ROOM, RATE = 0.7, 0.98, 3e-3
FIRST_SEED = 56_000_000  # pictures of this paper: no other seed of pictures is near
HALF = (3, 3)  # patches: a window of half a picture's side
OWN, DEALT, RANDOM, PLAIN, TRUE = (
    "by reward",
    "by rewards of other questions",
    "a random window",
    "no region",
    "a window with the object",
)
HITS, RIGHT, AGREES = "hits, {}", "right, {}", "attention in the window, {}"


@dataclass(frozen=True, kw_only=True)
class FocusSizes(Sizes):
    """How much is asked and trained."""

    training: int = size(900, "questions that policies are trained on", least=4)
    questions: int = size(300, "others that they are judged on", least=4)
    noise: float = size(0.04, "of pixels")
    steps: int = size(1000, "of training", least=1)


def measure(setting: Setting) -> Conditions:
    """Show the model every window of every picture, train policies on what answers bring, and judge their choices.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: FocusSizes = setting.options
    c = Conditions(unit="share of questions", within=SHARE, seed=setting.seed)
    world = World(objects=(0, 1, 1, 1), noise=o.noise, tiny=True)
    n, first = o.training + o.questions, FIRST_SEED + setting.seed
    asked = asked_pictures.ask_pictures(setting.model, world, kinds=["colour", "shape"], n=n, seed=first)
    game = region_policy.play(
        setting.model, asked, HALF, told=lambda i, of: setting.progress(i, of, "windows")
    )
    shown = asked[o.training :]
    general = shown.asking(setting.model, DESCRIBE)
    maps = asked_maps.relative_attention(setting.model, shown.prompt, general).mean(1)  # over layers
    judged = _Judged(game, maps, slice(o.training, n))
    found: dict[str, list[np.ndarray]] = {}
    for i in range(TRAININGS):
        seed = 100 * setting.seed + i
        for name, values in judged.of_training(_trained(game, o, seed=seed)).items():
            found.setdefault(name, []).append(values)
    for name, each in found.items():
        of_maps = name.startswith("attention")
        add_trainings(
            c, name, each, within=None if of_maps else SHARE, unit="of an even map" if of_maps else "share"
        )
    plain = asked_pictures.answered(setting.model, shown)
    for name in (PLAIN, *(of_training(PLAIN, i) for i in range(TRAININGS))):
        c[RIGHT.format(name)] = plain
    c.tell(RIGHT.format(TRUE), judged.right_where_it_is(), n=len(plain))
    return c


def _trained(game: Any, o: FocusSizes, *, seed: int) -> dict[str, Any]:
    """Both policies of one seed."""
    rows = slice(0, o.training)
    width, own = game.patches.shape[-1], game.rewards[rows]
    arms = side_by_side.begin_alike(
        {name: lambda: region_policy.RegionPolicy(width, game.masks) for name in (OWN, DEALT)}, seed=seed
    )
    dealt = own[derangement(o.training, np.random.default_rng([56, seed]))]
    inputs = [game.patches[rows], game.words[rows]]
    region_policy.reinforce(arms, inputs, {OWN: own, DEALT: dealt}, steps=o.steps, rate=RATE, seed=seed)
    return arms


@dataclass(frozen=True, eq=False)
class _Judged:
    """What choices of windows are judged by, on questions that no policy was trained on."""

    game: Any
    maps: np.ndarray
    rows: slice

    def of_training(self, arms: dict[str, Any]) -> dict[str, np.ndarray]:
        """Hits, right answers and attention in the window, of each policy and of random windows."""
        holds, right = self.game.holds[self.rows], self.game.rewards[self.rows].cpu().numpy().astype(float)
        item, values = np.arange(len(holds)), {}
        for name, arm in arms.items():
            choice = region_policy.chosen(arm, self.game.patches[self.rows], self.game.words[self.rows])
            values[HITS.format(name)] = holds[item, choice].astype(float)
            values[RIGHT.format(name)] = right[item, choice]
            values[AGREES.format(name)] = focus_agreement(self.maps, self.game.masks[choice])
        values[HITS.format(RANDOM)] = holds.mean(1)  # over all windows: what a random one gives on average
        values[RIGHT.format(RANDOM)] = right.mean(1)
        return values

    def right_where_it_is(self) -> float:
        """The share of right answers over all windows that hold the object."""
        return float(self.game.rewards[self.rows].cpu().numpy()[self.game.holds[self.rows]].mean())


FIT = needs(
    at_least(RIGHT.format(TRUE), USEFUL),
    f"of windows with the object {{{RIGHT.format(TRUE)}:.0%}} are answered rightly; 70% is asked for",
)
GAIN = room(RIGHT.format(PLAIN), ROOM, f"without a region {{{RIGHT.format(PLAIN)}:.1%}} are answered rightly")
SUMMARY = "summary, reconstructed"
CLAIMS = {
    "finds": Claim(
        "by reward alone the policy finds the region that is asked about",
        in_each(above, HITS.format(OWN), HITS.format(RANDOM)),
        why="windows that hold every patch of the object, against windows at random; no box was used in training",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "reward": Control(
        "the policy finds the region more often than one that learned by rewards of other questions",
        in_each(above, HITS.format(OWN), HITS.format(DEALT)),
        why="the same policy and pictures, with as many rewards, dealt to other questions",
        needs=[FIT],
        models=2,
    ),
    "answers": Claim(
        "with the chosen region more is answered rightly than without one",
        in_each(above, RIGHT.format(OWN), RIGHT.format(PLAIN)),
        why="the same questions; the model is shown the window in place of the picture",
        where=SUMMARY,
        needs=[FIT, GAIN],
        models=2,
    ),
    "answers, random": Control(
        "with the chosen region more is answered rightly than with a random one",
        in_each(above, RIGHT.format(OWN), RIGHT.format(RANDOM)),
        why="the mean over all windows of the same picture",
        needs=[FIT],
        models=2,
    ),
    "agrees": Extension(
        "the chosen region agrees more with the model's own attention than that of the control",
        in_each(above, AGREES.format(OWN), AGREES.format(DEALT)),
        why="attention of the last token relative to that under a general instruction, mean over layers and heads",
        needs=[FIT],
        models=2,
    ),
    "benchmarks": untried(
        "so trained, large models are better on benchmarks than with boxes of people",
        "accuracy on the benchmarks of the paper",
        "photographs and models of seven billion weights cannot be had here",
        where=SUMMARY,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="intention-focus",
        source="VisRL 2025",
        model="zoo:vlm",
        options=FocusSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
