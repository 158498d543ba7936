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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.association import auroc
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.edits.reinforce import Reinforce
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below, no_worse, permuted, tells
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.edits import affine
    from workbench.heads import asked_pictures, divergence

if TYPE_CHECKING:
    from workbench.edits.edit import ModelEdit

# Criteria, fixed before anything was measured.
TENTH, WITHIN, ENOUGH, RIGHT = 0.1, 0.02, 20, 0.6
ROWS = 200  # questions of one pass
FIRST_SEED = 10_000_000  # pictures of this paper: no other seed of pictures is near
TOP, EVEN, RANDOM_HEADS = "share of the top tenth of heads", "uniform share", "share of random heads"
TOTAL, TRUE = "T-VHD of answers yes", "the object is there"
AS_IS, LOUDER = "yes though absent, as it is", "yes though absent, reinforced"
RANDOM, FIXED = "yes though absent, random heads", "yes though absent, fixed heads"
KEPT, KEPT_LOUDER = "yes where present, as it is", "yes where present, reinforced"
KEPT_RANDOM = "yes where present, random heads"


@dataclass(frozen=True, kw_only=True)
class VhdSizes:
    """Sizes.

    Attributes:
        choosing, questions: On which heads are chosen, and others that are reported; half are about what is absent.
        noise: Of pixels.
        noises, alphas: Of the tables.
        alpha: How much louder heads are made.
        top: Heads of a layer that the total counts.
        draws: Random sets of heads.
        how: What being without the picture is: ``remove`` its tokens or ``mask`` them.
    """

    choosing: int = 200
    questions: int = 1600
    noise: float = 0.12
    noises: tuple[float, ...] = (0.04, 0.08, 0.2)
    alpha: float = 2.0
    alphas: tuple[float, ...] = (1.25, 1.5, 3.0)
    top: int = 2
    draws: int = 20
    how: Literal["remove", "mask"] = "remove"

    def __post_init__(self) -> None:
        if min(self.choosing, self.questions) < 4:
            raise OptionError("four questions are the least that has an interval for each answer")
        if self.how not in ("remove", "mask"):
            raise OptionError(f"how is {self.how!r}; remove or mask is expected", hint="--set how=remove")


def measure(setting: Setting) -> Conditions:
    """Take the picture away, choose heads, make them louder, and count what is said of absent things.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: VhdSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    yes = asked_pictures.token_of(model, "yes")
    chosen_on = _asked(setting, seed, o.choosing, o.noise)
    asked = _asked(setting, seed + 1, o.questions, o.noise)
    there = asked.there
    c = Conditions(unit="share of questions answered yes", within=SHARE, seed=setting.seed)

    def says_yes(edit_of: Callable[[slice], ModelEdit] | None = None) -> np.ndarray:
        under = None if edit_of is None else lambda rows: edit_of(rows).on(model)
        return (asked_pictures.said(model, asked.prompt, rows=ROWS, under=under) == yes).astype(float)

    before = divergence.divergence(model, chosen_on.prompt, how=o.how)
    found = divergence.divergence(model, asked.prompt, how=o.how)
    mean = dict(zip(before.heads, before.by_head.mean(0), strict=True))
    ranked = sorted(mean, key=lambda head: -mean[head])
    _shares(c, ranked[: ceil(TENTH * len(ranked))], found, setting)
    plain = says_yes()
    c.numbers |= {
        "right": float((plain == there).mean()),
        "hallucinated": int(plain[~there].sum()),
        "truly": int(plain[there].sum()),
        "heads": len(ranked),
    }
    of_yes = plain > 0.5
    c.add(TOTAL, found.total(o.top)[of_yes], unit="units of z, top heads of every layer added up")
    c.add(TRUE, there[of_yes].astype(float), within=SHARE, unit="share of answers yes")
    c.numbers["AUROC"] = auroc(c[TOTAL], c[TRUE] > 0.5)
    setting.progress(1, 3, "heads made louder")

    def louder(
        alpha: float, choose: Literal["divergent", "random"] = "divergent", draw: int = 0
    ) -> np.ndarray:
        make = partial(
            Reinforce, layers=found.layers, alpha=alpha, choose=choose, seed=setting.seed * 997 + draw
        )
        return says_yes(lambda rows: make(without=found.without[rows]))

    reinforced = louder(o.alpha)
    drawn = [louder(o.alpha, "random", i) for i in range(o.draws)]
    half = len(ranked) // len(before.layers) // 2
    fixed = [h for n in before.layers for h in [r for r in ranked if layer_of(r) == n][:half]]
    always = affine.affine_of(model, fixed, a=o.alpha, b=0.0, train=(), positions=(-1,), when="all")
    same = says_yes(lambda rows: always)
    c[AS_IS], c[LOUDER], c[FIXED] = plain[~there], reinforced[~there], same[~there]
    c[KEPT], c[KEPT_LOUDER] = plain[there], reinforced[there]
    c.draws[RANDOM], c.draws[KEPT_RANDOM] = [d[~there] for d in drawn], [d[there] for d in drawn]
    setting.progress(2, 3, "tables")
    c.numbers |= {"fixed heads": fixed, "top heads": ranked[: ceil(TENTH * len(ranked))]}
    c.tables["How loud"] = [
        {
            "factor": a,
            "heads": heads,
            "yes though absent": x[~there].mean(),
            "yes where present": x[there].mean(),
        }
        for a, heads, x in [
            (1.0, "as it is", plain),
            (o.alpha, "divergent", reinforced),
            (o.alpha, "random", np.mean(drawn, axis=0)),
            (o.alpha, "fixed", same),
            *((a, "divergent", louder(a)) for a in o.alphas),
        ]
    ]
    c.tables["Noise of pixels"] = [_of_noise(setting, noise, yes, seed + 2) for noise in (*o.noises, o.noise)]
    of = dict(zip(found.heads, found.by_head.mean(0), strict=True))
    c.draw_heads("Divergence of every head, reported pictures", of, unit="units of z")
    return c


def _asked(setting: Setting, seed: int, n: int, noise: float) -> asked_pictures.AskedPictures:
    """Questions about what is there and what is not, by turns."""
    world = World(objects=(0, 1, 1, 1), noise=noise)
    return asked_pictures.ask_existence(setting.model, world, n=n, seed=seed)


def _shares(c: Conditions, chosen: list[str], found, setting: Setting) -> None:
    """What part of all divergence the chosen heads have, and as many random ones of their layers."""
    whole = found.by_head.sum(1)
    of = dict(zip(found.heads, found.by_head.T, strict=True))

    def share(heads) -> np.ndarray:
        return np.sum([of[head] for head in heads], axis=0) / whole

    draws = matched_heads(chosen, found.heads, draws=20, seed=setting.seed, short="all")
    unit = "share of the divergence of all heads"
    even = np.full(len(whole), len(chosen) / len(found.heads))
    for name, value in (
        (TOP, share(chosen)),
        (EVEN, even),
        (RANDOM_HEADS, np.mean([share(drawn) for drawn in draws], axis=0)),
    ):
        c.add(name, value, within=SHARE, unit=unit)


def _of_noise(setting: Setting, noise: float, yes: int, seed: int) -> dict[str, float]:
    """How often the model errs at a noise, and whether the total tells its answers yes apart."""
    o: VhdSizes = setting.options
    asked = _asked(setting, seed, o.choosing, noise)
    says = asked_pictures.said(setting.model, asked.prompt) == yes
    total = divergence.divergence(setting.model, asked.prompt, how=o.how).total(o.top)
    row = {"noise": noise, "yes though absent": says[~asked.there].mean()}
    told = auroc(total[says], asked.there[says])
    return row | {"yes where present": says[asked.there].mean(), "AUROC of T-VHD": told}


ABLE = needs(
    at_least("right", RIGHT), "the model answers {right:.0%} of the questions rightly; 60% is asked for"
)
ERRS = needs(
    lambda c: min(c.numbers["hallucinated"], c.numbers["truly"]) >= ENOUGH,
    "{hallucinated} answers yes are hallucinated and {truly} right; twenty of both are asked for",
)
CLAIMS = {
    "few": Claim(
        "few heads carry most of the divergence",
        above(TOP, EVEN),
        "the top tenth of heads, chosen on other pictures, has more than its uniform share of the divergence: paired "
        "difference above 0, interval included",
        why="a tenth of heads that change alike would have a tenth",
        where="section on VHD",
        needs=[ABLE],
    ),
    "layers": Claim(
        "the heads that diverge most do so beyond what their layers do",
        above(TOP, RANDOM_HEADS),
        why="norms of z differ by layer, so the control has as many heads of the same layers",
        where="a control of ours",
        needs=[ABLE],
    ),
    "tells": Claim(
        "hallucinated words have lower T-VHD than right ones",
        tells(TOTAL, TRUE)
        & permuted(
            "AUROC of T-VHD for answers yes that are right",
            lambda labels, c: auroc(c[TOTAL], np.asarray(labels) > 0.5),
            lambda c: c[TRUE].tolist(),
        ),
        "among answers yes, AUROC of T-VHD for the right ones above 0.5, interval included, and p below 0.05 with "
        "shuffled labels",
        why="the word is the same in both, so that only what it is about differs",
        where="section on VHD",
        needs=[ABLE, ERRS],
        found="{AUROC:.3f}",
        control="0.5 with shuffled labels",
    ),
    "lowers": Claim(
        "reinforcing heads that depend on the picture lowers hallucination",
        below(LOUDER, AS_IS),
        paper="CHAIR_S 49.68 to 33.32 (LLaVA-1.5)",
        why="the truth about what is absent is exact",
        where="results on CHAIR",
        needs=[ABLE, ERRS],
    ),
    "random": Claim(
        "it lowers hallucination more than reinforcing as many random heads of each layer",
        below(LOUDER, RANDOM),
        why="any change of outputs may make a model say yes less often",
        where="a control of ours",
        needs=[ABLE, ERRS],
    ),
    "fixed": Claim(
        "it lowers hallucination more than reinforcing a fixed set of heads",
        below(LOUDER, FIXED),
        paper="CHAIR_S 33.32 against 44.72",
        why="the fixed set has as many heads of each layer, those of the largest divergence on other pictures",
        where="ablation: input-independent heads",
        needs=[ABLE, ERRS],
    ),
    "kept": Claim(
        "right answers about what is there are kept",
        no_worse(KEPT_LOUDER, KEPT, within=WITHIN),
        why="two points; a model that never says yes hallucinates nothing",
        where="a control of ours",
        needs=[ABLE],
    ),
    "coco": untried(
        "CHAIR of descriptions of photographs falls by up to a third",
        "CHAIR_S and CHAIR_I on COCO with LLaVA, InstructBLIP and LLaVA-NeXT",
        "photographs and models of seven billion weights cannot be had here",
        paper="CHAIR_S 49.68 to 33.32, CHAIR_I 14.32 to 9.71 (LLaVA-1.5)",
        where="results on CHAIR",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="vhd",
        title="Cracking the Code of Hallucination in LVLMs with Vision-aware Head Divergence",
        source="He et al. 2024",
        model="zoo:vlm",
        options=VhdSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
