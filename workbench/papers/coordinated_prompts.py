"""Coordinated prompts: each token sees the soft prompts that are for it, in place of all prompts for all tokens.

A frozen tower names the object in the white frame. Soft prompts in front of every layer and a linear head on the class
token teach it something new: whether that object is small or large. Shared prompts are seen by every token. Coordinated
prompts have roles: two are for the class token, and of six others each patch sees the two whose sign is nearest to it.
Only a summary of the paper was read. All arms have eight prompts a layer, start from the same prompts and are trained
side by side on the same pictures, two trainings each; they are trained anew in every run.

Controls:
- shared prompts, as many
- roles alone: the class token has its own, and patches see all others
- two prompts for each patch, dealt at random once in place of matched
- the head alone
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, room, untried
from workbench.papers.kit.criteria import above, at_least, at_most, below
from workbench.papers.kit.frames import SUMMARISED, Control, Summarised
from workbench.papers.kit.trained_arms import TRAININGS, add_trainings, in_each
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.training import prompt_arms, prompted_tower

# Criteria, fixed before anything was measured.
LEARNED, ROOM = 0.8, 0.985
FIRST_SEED = 33_000_000  # pictures of this paper: no other seed of pictures is near
ALONE, SHARED, ROLES = "head alone", "shared prompts", "prompts by role"
MATCHED, DEALT = "coordinated prompts", "prompts dealt at random"
WAYS: dict[str, Any] = {SHARED: "all", ROLES: "roles", MATCHED: "matched", DEALT: "dealt"}
ALIKE = "likeness of patches"
PLANNED, LEAKS = (
    "tokens that see as many prompts as planned",
    "entries where a token depends on what it does not see",
)


@dataclass(frozen=True, kw_only=True)
class SoftPromptSizes(Sizes):
    """How much is drawn and trained."""

    pictures: int = size(1000, "pictures on which trained prompts are judged", least=2)
    noise: float = size(0.04, "of pixels")
    steps: int = size(150, "of training", least=1)
    batch: int = size(24, "pictures of a step", least=1)


def measure(setting: Setting) -> Conditions:
    """Train all arms side by side, twice, and judge them on other pictures.

    Raises:
        ModelError: for a model that is no ViT.
    """
    o: SoftPromptSizes = setting.options
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    plans = {ALONE: None, **{name: prompted_tower.PromptPlan(who=who) for name, who in WAYS.items()}}
    pictures = prompt_arms.sizes_of_framed(o.pictures, seed=FIRST_SEED + setting.seed, noise=o.noise)
    arms = []
    for i in setting.each(range(TRAININGS), "trainings"):
        first = FIRST_SEED + 100_000 * (1 + i) + setting.seed
        step = partial(prompt_arms.sizes_of_step, n=o.batch, seed=first, noise=o.noise)
        how = {"classes": 2, "steps": o.steps, "seed": 100 * setting.seed + i}
        arms.append(prompt_arms.train_prompts(setting.model, plans, step, **how))
    for name in plans:
        right, alike = zip(*(prompt_arms.judged(own[name], pictures) for own in arms), strict=True)
        add_trainings(c, name, right, within=SHARE, unit=c.unit)
        add_trainings(c, f"{ALIKE}, {name}", alike, unit="mean cosine of two patches")
    _check(c, arms[-1], pictures[0])
    return c


def _check(c: Conditions, arms: Any, pixels: Any) -> None:
    """Who sees which prompts, counted, and whether a token depends on any that it does not see."""
    planned = prompted_tower.seen_as_planned(arms[MATCHED], pixels[:8])
    c.tell(PLANNED, float(planned.mean()), n=len(planned))
    leaks = sum(prompted_tower.count_leaks(arms[name], pixels) for name in WAYS)
    c.tell(LEAKS, leaks, n=len(WAYS) * len(arms[MATCHED].soft))


FIT = needs(
    at_least(SHARED, LEARNED),
    f"with shared prompts, the reference, {{{SHARED}:.0%}} are right; 80% is asked for",
)
GAIN = room(SHARED, ROOM, f"with shared prompts {{{SHARED}:.1%}} are right")
OfArms = partial(Summarised, models=TRAININGS)
ControlOfArms = partial(Control, models=TRAININGS)
CLAIMS = {
    "planned": Claim(
        "every token sees exactly the prompts that are planned for it",
        at_least(PLANNED, 1),
        why="two of eight for the class token and for each patch; counted in every layer",
        where="definition",
    ),
    "leaks": Claim(
        "a token does not depend on a prompt that it does not see",
        at_most(LEAKS, 0),
        why="the gradient of each token behind a layer by each prompt of that layer, in all arms with prompts",
        where="definition",
    ),
    "learned": ControlOfArms(
        "shared prompts teach the tower more than a head alone",
        in_each(above, SHARED, ALONE),
        why="the same head without prompts; what is compared below has to be worth something",
    ),
    "coordinated": OfArms(
        "coordinated prompts answer more than as many shared ones",
        in_each(above, MATCHED, SHARED),
        why="same start, pictures and number of prompts",
        needs=[FIT, GAIN],
    ),
    "roles": OfArms(
        "prompts by role answer more than as many shared ones",
        in_each(above, ROLES, SHARED),
        why="the same without matching: which half of the method does it",
        needs=[FIT, GAIN],
    ),
    "matched": ControlOfArms(
        "matched prompts answer more than as many dealt at random",
        in_each(above, MATCHED, DEALT),
        why="each patch sees two of six prompts in both; only which differs",
        needs=[FIT],
    ),
    "diverse": OfArms(
        "with coordinated prompts patches become less alike than with shared ones",
        in_each(below, f"{ALIKE}, {MATCHED}", f"{ALIKE}, {SHARED}"),
        why="the mean cosine of all pairs of patches behind the last norm, picture by picture",
        needs=[FIT],
    ),
    "diverse, dealt": ControlOfArms(
        "with coordinated prompts patches become less alike than with prompts dealt at random",
        in_each(below, f"{ALIKE}, {MATCHED}", f"{ALIKE}, {DEALT}"),
        why="prompts that differ from patch to patch make patches differ, whoever chose them",
        needs=[FIT],
    ),
    "photographs": untried(
        "on benchmarks of photographs it is better than other visual prompting",
        "accuracy on the benchmarks of the paper",
        "photographs and towers that were trained on them cannot be had here",
        where=SUMMARISED,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="coordinated-prompts",
        source="TCPA 2025",
        model="zoo:marked",
        options=SoftPromptSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
