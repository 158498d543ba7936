"""Visual attention sinks: patches that draw attention whatever is asked, and what giving it to others does.

The paper says that some patches have a massive activation in a few dimensions, the same as the first token has; that
they draw much attention and lie in the background; that nothing is lost without them; and that their attention, moved
to the other patches in heads that look at the picture, raises accuracy.

A patch draws much attention where words give it more than five times the mean of all patches, heads averaged. The
threshold of a massive activation is the paper's at the model's own width (20 of at most 64, so 2.5 of at most 8). A
sink patch is both, in one layer, from the second on. The share of a head's attention to the picture that may be on
sinks is chosen on other pictures than those reported. Pixel noise is 0.12: in clean pictures there is nothing to raise.
The background patches of `zoo:vlm` were trained to say little, so that it may have no sinks: then claims about them
cannot be tested on it.

Controls:
- unattended patches of the same pictures and layers, in the same dimensions; random dimensions, as many
- the share of all patches that is background
- as many random patches of objects hidden; pictures whose objects have fewer patches than they have sinks are left
  out of that comparison and counted
- all heads, and as many random heads of each layer, row by row
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below, no_worse
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, Extension, answers, enough
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.edits import sink_rows
    from workbench.heads import asked_pictures, hidden_keys, visual_sinks

# Criteria, fixed before anything was measured.
ENOUGH, RIGHT, WITHIN, FEW, MOVES = 20, 0.6, 0.02, 0.05, 0.01
FIRST_SEED = 11_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape", "place", "exist")
HAS, AS_IS, SHOWN = "pictures with a sink patch", "as it is", "as it is, pictures with sinks"
FOUND, FOUND_RANDOM = "attended patches that are massive", "massive in random dimensions"
FOUND_OTHERS = "unattended patches that are massive"
SINKS_BEHIND, ALL_BEHIND = "sink patches in the background", "patches in the background"
NO_SINKS, NO_OBJECTS = "sink patches hidden", "as many object patches hidden"
NO_SINKS_TOO = "sink patches hidden, pictures with as many object patches"
MOVED, GIVEN = "attention moved", "attention redistributed"
ALL_HEADS, RANDOM_HEADS = "redistributed in all heads", "redistributed in random heads"


@dataclass(frozen=True, kw_only=True)
class VisualSinksSizes(Sizes):
    """How much is asked, and how a sink is found."""

    choosing: int = size(200, "questions on which dimensions and the ratio are chosen")
    questions: int = size(800, "others that are reported")
    noise: float = size(0.12, "of pixels")
    dimensions: int = size(2, "in which activations are looked at")
    keep: float = size(0.4, "share of its weight that a sink keeps")
    draws: int = size(10, "random dimensions, patches and heads")


def measure(setting: Setting) -> Conditions:
    """Find sink patches, hide them, and move their attention.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    ask = partial(asked_pictures.ask_pictures, model, World(objects=(0, 1, 1, 1), noise=o.noise), kinds=KINDS)
    chosen_on, asked = ask(n=o.choosing, seed=seed), ask(n=o.questions, seed=seed + 1)
    rng, how = np.random.default_rng([seed, 2]), {"n": o.dimensions, "draws": o.draws}
    sinks = visual_sinks.find_sinks(model, chosen_on.prompt[:8], asked.prompt, rng=rng, **how)
    c = Conditions(seed=setting.seed)
    _massive(c, sinks)
    setting.progress(1, 3, "sinks hidden")
    c[AS_IS] = asked_pictures.answered(model, asked)
    _hidden(c, setting, asked, sinks.patches, rng)
    setting.progress(2, 3, "attention redistributed")
    sizes = {"keep": o.keep, "draws": o.draws, "seed": setting.seed}
    found = sink_rows.redistribute_on(model, chosen_on, asked, sinks, **sizes)
    c.numbers["ratio"], c.tables["Ratio, on the pictures for choosing"] = found.ratio, found.tried
    c[GIVEN], c[ALL_HEADS], c.draws[RANDOM_HEADS] = found.chosen, found.every, found.random
    c.add(MOVED, found.moved, unit="share of a row")
    return c


def _massive(c: Conditions, found: visual_sinks.FoundSinks) -> None:
    """How many attended patches are massive, beside others and random dimensions."""
    shares, n = found.shares, int(found.shares.rows.sum())
    c.numbers |= {"dimensions": list(found.dimensions), "tau": found.tau, "attended": n}
    c.numbers["weight on sinks"], c.tables["Layer by layer"] = found.weight, found.by_layer()
    c.add(HAS, np.asarray(found.patches.any(1)), within=SHARE, unit="share of pictures")
    if n:
        c.add(FOUND, shares.attended, within=SHARE, unit="share of attended patches")
        c.add(FOUND_OTHERS, shares.beside, within=SHARE, unit="share of other patches, by layer")
        c.add(FOUND_RANDOM, shares.random, within=SHARE, unit="share of attended patches")


def _hidden(c: Conditions, setting: Setting, asked, sinks: np.ndarray, rng: np.random.Generator) -> None:
    """Right answers in pictures with sinks: as they are, without sinks, without as many patches of objects."""
    found = hidden_keys.hide_patches(setting.model, asked, sinks, draws=setting.options.draws, rng=rng)
    c.numbers["with sinks"] = 0 if found is None else len(found.rows)
    if found is None:
        return
    c.add(SINKS_BEHIND, found.behind, within=SHARE, unit="share of patches")
    c.add(ALL_BEHIND, found.every_behind, within=SHARE, unit="share of patches")
    c[SHOWN], c[NO_SINKS], wide = c[AS_IS][found.rows], found.without, found.wide
    c.numbers |= {"with objects": int(wide.sum()), "objects too small": int((~wide).sum())}
    if wide.any():
        c.add(NO_SINKS_TOO, found.without[wide], within=SHARE)
        c.draws[NO_OBJECTS] = found.objects


ABLE = answers(AS_IS, RIGHT)
ATTENDED = enough("attended", least=ENOUGH, of="{attended} pictures have a patch that draws much")
SINKS = enough("with sinks", least=ENOUGH, of="{with sinks} pictures have a sink patch")
OBJECTS = "{with objects} pictures with sinks have as many patches of objects, {objects too small} have fewer"
WIDE = enough("with objects", least=ENOUGH, of=OBJECTS)
GIVES = "words give {weight on sinks:.1%} to sinks of any kind; 1% is asked for"
WEIGHT = needs(at_least("weight on sinks", MOVES), GIVES)
Masked = partial(Claim, where="analysis of visual sinks: masking")


Raises = partial(Claim, why="the same questions, paired", needs=[ABLE, WEIGHT])


def _raises(against: str, over: str, where: str, paper: str | None = None) -> Claim:
    says = f"redistribution in heads that look at the picture raises accuracy: against {against}"
    return Raises(says, above(GIVEN, over), paper=paper, where=where)


CLAIMS = {
    "exist": Claim(
        "there are patches that draw much attention and have a massive activation",
        above(HAS, by=FEW),
        why="one picture in twenty has one, at least",
        where="section on visual attention sinks",
    ),
    "massive": Claim(
        "patches that draw much attention have a massive activation in few dimensions",
        above(FOUND, FOUND_OTHERS) & above(FOUND, FOUND_RANDOM),
        why="the dimensions are those in which the first token's activation is largest; where all patches are "
        "massive there, attention has no part in it",
        where="section on how to find visual sinks",
        needs=[ATTENDED],
    ),
    "background": Claim(
        "sink patches lie in the background",
        above(SINKS_BEHIND, ALL_BEHIND),
        paper="over 90%",
        why="most patches are background, so that random ones mostly lie there too",
        where="analysis of visual sinks",
        needs=[SINKS],
    ),
    "harmless": Masked(
        "nothing is lost when sink patches are hidden",
        no_worse(NO_SINKS, SHOWN, within=WITHIN),
        why="two points, in the pictures that have sinks",
        needs=[ABLE, SINKS],
    ),
    "objects": Masked(
        "more is lost when as many patches of objects are hidden",
        below(NO_OBJECTS, NO_SINKS_TOO),
        why="the same pictures, paired, those whose objects have as many patches",
        needs=[ABLE, SINKS, WIDE],
    ),
    "moves": Extension(
        "redistribution moves attention",
        above(MOVED, by=MOVES),
        why="a hundredth of a row, heads averaged; what moves nothing could not help",
        needs=[WEIGHT],
    ),
    "raises": _raises("the model as it is", AS_IS, "results", "GQA 62.0 to 63.5, VizWiz 50.0 to 53.7"),
    "all heads": _raises("all heads", ALL_HEADS, "ablations", "without selection accuracy collapses"),
    "random heads": _raises("random heads of the same layers", RANDOM_HEADS, "a control of ours"),
    "benchmarks": untried(
        "accuracy on sets of photographs rises, and hallucination falls",
        "LLaVA-1.5, Qwen2-VL and InternVL2 on photographs",
        NO_PHOTOGRAPHS,
        paper="LLaVA-1.5-7B: VizWiz 50.0 to 53.7, MM-Vet 31.1 to 33.7, GQA 62.0 to 63.5",
        where="results",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="visual-sinks",
        source="Kang et al. 2025",
        model="zoo:vlm",
        options=VisualSinksSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
