"""Vision-aware head divergence: heads whose output changes most when the picture is gone, and what making them louder
does to hallucination.

The paper compares every head's output with the picture and without it. Few heads change much; words that name what is
not there come with little change; and heads that change more than the median of their layer are made twice as loud,
chosen for every prompt. Here the model is asked whether a coloured shape is in a drawn picture, and the truth is known
exactly: a *yes* about something that is not there is a hallucination. What is not there shares its colour or its shape
with something that is.

Pixel noise is 0.12. In clean pictures the model hardly ever says yes to what is not there; the noise of the model's
card at which descriptions hallucinate is taken, and no other was chosen by what came out. The table of noises has
others. Heads are chosen on other pictures than those reported. All four layers are used, where the paper
leaves out half of its 32. How many heads the total counts is not said in the paper; it is two of a layer here.

Controls:
- what every head would have if all changed alike, and random heads of the same layers
- shuffled labels of right and hallucinated answers
- as many random heads of each layer made louder, drawn for every prompt
- a fixed set of heads made louder, the same for every prompt
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Literal

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import above, area, below, dealt, no_worse, tells
from workbench.papers.kit.frames import HALLUCINATED, NO_PHOTOGRAPHS, Control, answers, enough
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import louder as louder_heads
    from workbench.heads import divergence, existence

# Criteria, fixed before anything was measured.
TENTH, WITHIN, ENOUGH, RIGHT = 0.1, 0.02, 20, 0.6
FIRST_SEED = 10_000_000  # pictures of this paper: no other seed of pictures is near
TOP, EVEN, RANDOM_HEADS = "share of the top tenth of heads", "uniform share", "share of random heads"
TOTAL, TRUE = "T-VHD of answers yes", "the object is there"
AS_IS, LOUDER = "yes though absent, as it is", "yes though absent, reinforced"
RANDOM, FIXED = "yes though absent, random heads", "yes though absent, fixed heads"
KEPT, KEPT_LOUDER = "yes where present, as it is", "yes where present, reinforced"
KEPT_RANDOM = "yes where present, random heads"


@dataclass(frozen=True, kw_only=True)
class VhdSizes(Sizes):
    """Numbers of questions, and how loud heads are made."""

    choosing: int = size(200, "questions on which heads are chosen, half about what is absent", least=4)
    questions: int = size(1600, "others that are reported, half about what is absent", least=4)
    noise: float = size(0.12, "of pixels")
    noises: tuple[float, ...] = size((0.04, 0.08, 0.2), "further ones, of a table")
    alpha: float = size(2.0, "how much louder heads are made")
    alphas: tuple[float, ...] = size((1.25, 1.5, 3.0), "further factors, of a table")
    top: int = size(2, "heads of a layer that the total counts")
    draws: int = size(20, "random sets of heads")
    how: Literal["remove", "mask"] = size("remove", "without the picture: its tokens removed, or masked")


def measure(setting: Setting) -> Conditions:
    """Take the picture away, choose heads, make them louder, and count what is said of absent things.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    c = Conditions(unit="share of questions answered yes", within=SHARE, seed=setting.seed)
    chosen_on = existence.ask_at_noise(model, o.noise, n=o.choosing, seed=seed)
    asked = existence.ask_at_noise(model, o.noise, n=o.questions, seed=seed + 1)
    before, found = (divergence.divergence(model, each.prompt, how=o.how) for each in (chosen_on, asked))
    top = before.ranked()[: ceil(TENTH * len(before.heads))]
    shares = divergence.top_share(found, top, seed=setting.seed)
    for name, share in zip((TOP, EVEN, RANDOM_HEADS), shares, strict=True):
        c.add(name, share, within=SHARE, unit="share of the divergence of all heads")
    _louder(c, setting, asked, found, before.upper_half())
    c.tables["Noise of pixels"] = [_of_noise(setting, x, seed + 2) for x in (*o.noises, o.noise)]
    c.draw_heads("Divergence of every head, reported pictures", found.means(), unit="units of z")
    c.numbers |= {"heads": len(found.heads), "top heads": top}
    return c


def _louder(c: Conditions, setting: Setting, asked, found: divergence.Divergence, fixed: list[str]) -> None:
    """Answers as they are, and with heads made louder: those of each prompt, random ones, always the same."""
    o, there = setting.options, asked.there
    louder = louder_heads.Louder(model=setting.model, asked=asked, found=found, seed=setting.seed)
    plain, total = louder.as_it_is(), found.total(o.top)
    c.add(TOTAL, total[plain > 0.5], unit="units of z, top heads of every layer added up")
    c.add(TRUE, there[plain > 0.5], within=SHARE, unit="share of answers yes")
    c.numbers |= {"right": float((plain == there).mean()), **existence.yes_answers(plain, there).counts}
    c.numbers |= {"AUROC": existence.tells_true(total, plain, there), "fixed heads": fixed}
    setting.progress(1, 3, "heads made louder")
    reinforced, same = louder.chosen(o.alpha), louder.always(o.alpha, fixed)
    drawn = [louder.chosen(o.alpha, "random", i) for i in range(o.draws)]
    c[AS_IS], c[LOUDER], c[FIXED] = plain[~there], reinforced[~there], same[~there]
    c[KEPT], c[KEPT_LOUDER] = plain[there], reinforced[there]
    c.draws[RANDOM], c.draws[KEPT_RANDOM] = [yes[~there] for yes in drawn], [yes[there] for yes in drawn]
    setting.progress(2, 3, "tables")
    rows = [(1.0, "as it is", plain), (o.alpha, "divergent", reinforced)]
    rows += [(o.alpha, "random", np.mean(drawn, axis=0)), (o.alpha, "fixed", same)]
    rows += [(alpha, "divergent", louder.chosen(alpha)) for alpha in o.alphas]
    c.tables["How loud"] = [
        {"factor": alpha, "heads": heads, **existence.yes_answers(yes, there).row()}
        for alpha, heads, yes in rows
    ]


def _of_noise(setting: Setting, noise: float, seed: int) -> dict[str, float]:
    """How often the model errs at a noise, and whether the total tells its answers yes apart."""
    o, model = setting.options, setting.model
    asked = existence.ask_at_noise(model, noise, n=o.choosing, seed=seed)
    yes, found = existence.says_yes(model, asked), divergence.divergence(model, asked.prompt, how=o.how)
    row = existence.noise_row(noise, {"": yes}, asked.there)
    return row | {"AUROC of T-VHD": existence.tells_true(found.total(o.top), yes, asked.there)}


ERRS = enough("hallucinated", "truly", least=ENOUGH, of=HALLUCINATED)
OfDivergence = partial(Claim, where="section on VHD")
OfHallucination = partial(Claim, where="results on CHAIR", needs=[ERRS])
CLAIMS = {
    "few": OfDivergence(
        "few heads carry most of the divergence",
        above(TOP, EVEN),
        "the top tenth of heads, chosen on other pictures, has more than its uniform share of the divergence: paired "
        "difference above 0, interval included",
        why="a tenth of heads that change alike would have a tenth",
    ),
    "layers": Control(
        "the heads that diverge most do so beyond what their layers do",
        above(TOP, RANDOM_HEADS),
        why="norms of z differ by layer, so the control has as many heads of the same layers",
    ),
    "tells": OfDivergence(
        "hallucinated words come with less divergence (T-VHD) than right ones",
        tells(TOTAL, TRUE) & dealt("AUROC of T-VHD for answers yes that are right", area, TOTAL, TRUE),
        "among answers yes, AUROC of T-VHD for the right ones above 0.5, interval included, and p below 0.05 with "
        "shuffled labels",
        why="the word is the same in both, so that only what it is about differs",
        needs=[ERRS],
        found="{AUROC:.3f}",
        control="0.5 with shuffled labels",
    ),
    "lowers": OfHallucination(
        "reinforcing heads that depend on the picture lowers hallucination",
        below(LOUDER, AS_IS),
        paper="CHAIR_S 49.68 to 33.32 (LLaVA-1.5)",
        why="the truth about what is absent is exact",
    ),
    "random": Control(
        "reinforcing these heads lowers hallucination more than as many random heads of each layer",
        below(LOUDER, RANDOM),
        why="any change of outputs may make a model say yes less often",
        needs=[ERRS],
    ),
    "fixed": OfHallucination(
        "reinforcing these heads lowers hallucination more than reinforcing a fixed set of heads",
        below(LOUDER, FIXED),
        paper="CHAIR_S 33.32 against 44.72",
        why="the fixed set has as many heads of each layer, those of the largest divergence on other pictures",
        where="ablation: input-independent heads",
    ),
    "kept": Control(
        "right answers about what is there are kept",
        no_worse(KEPT_LOUDER, KEPT, within=WITHIN),
        why="two points; a model that never says yes hallucinates nothing",
    ),
    "coco": untried(
        "CHAIR of descriptions of photographs falls by up to a third",
        "CHAIR_S and CHAIR_I on COCO with LLaVA, InstructBLIP and LLaVA-NeXT",
        NO_PHOTOGRAPHS,
        paper="CHAIR_S 49.68 to 33.32, CHAIR_I 14.32 to 9.71 (LLaVA-1.5)",
        where="results on CHAIR",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="vhd",
        source="He et al. 2024",
        model="zoo:vlm",
        options=VhdSizes,
        measure=measure,
        needs=[answers("right", RIGHT)],
        claims=CLAIMS,
    )
)
