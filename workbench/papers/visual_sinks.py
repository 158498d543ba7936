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
from workbench.edits.redistribute import Redistribute
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below, no_worse
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, Extension
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.heads import asked_pictures, hidden_keys, span_attention, visual_sinks
    from workbench.model import probe

# Criteria, fixed before anything was measured.
ENOUGH, RIGHT, WITHIN, FEW, MOVES = 20, 0.6, 0.02, 0.05, 0.01
FIRST_SEED = 11_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape", "place", "exist")
RATIOS = (0.8, 0.5, 0.9)  # the paper's
HAS = "pictures with a sink patch"
FOUND, FOUND_RANDOM = "attended patches that are massive", "massive in random dimensions"
FOUND_OTHERS = "unattended patches that are massive"
SINKS_BEHIND, ALL_BEHIND = "sink patches in the background", "patches in the background"
AS_IS, NO_SINKS, NO_OBJECTS = "as it is", "sink patches hidden", "as many object patches hidden"
NO_SINKS_TOO = "sink patches hidden, pictures with as many object patches"
SHOWN = "as it is, pictures with sinks"
MOVED, GIVEN = "attention moved", "attention redistributed"
ALL_HEADS, RANDOM_HEADS = "redistributed in all heads", "redistributed in random heads"


@dataclass(frozen=True, kw_only=True)
class VisualSinksSizes:
    """Sizes.

    Attributes:
        choosing, questions: On which dimensions and the ratio are chosen, and others that are reported.
        noise: Of the pixels.
        dimensions: In which activations are looked at.
        keep: Share of its weight that a sink keeps.
        draws: Random dimensions, patches and heads.
    """

    choosing: int = 200
    questions: int = 800
    noise: float = 0.12
    dimensions: int = 2
    keep: float = 0.4
    draws: int = 10


def measure(setting: Setting) -> Conditions:
    """Find sink patches, hide them, and move their attention.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: VisualSinksSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    world = World(objects=(0, 1, 1, 1), noise=o.noise)
    chosen_on, asked = (
        asked_pictures.ask_pictures(model, world, kinds=KINDS, n=n, seed=seed + i)
        for i, n in enumerate((o.choosing, o.questions))
    )
    layers = probe.wiring(model).attention_layers
    later, inner = layers[1:], layers[1:-1]
    own = visual_sinks.sink_dimensions(model, chosen_on.prompt[:8], n=o.dimensions, layers=later)
    seen, rng = visual_sinks.see_sinks(model, asked.prompt, layers=later), np.random.default_rng([seed, 2])
    tau, width = visual_sinks.usual_tau(seen.resid.shape[-1]), seen.resid.shape[-1]
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    attended, massive, weight = seen.attended, seen.massive(own), seen.weight(own)
    sinks, rows = attended & massive, attended.any((1, 2))
    c.add(HAS, sinks.any((1, 2)), within=SHARE, unit="share of pictures")
    if rows.any():
        randoms = [
            seen.massive(rng.choice(width, o.dimensions, replace=False).tolist()) for _ in range(o.draws)
        ]
        by_chance = np.mean([_share(attended & each, attended)[rows] for each in randoms], axis=0)
        c.add(FOUND, _share(sinks, attended)[rows], within=SHARE, unit="share of attended patches")
        others = _beside(attended, massive)[rows]
        c.add(FOUND_OTHERS, others, within=SHARE, unit="share of other patches, by layer")
        c.add(FOUND_RANDOM, by_chance, within=SHARE, unit="share of attended patches")
    behind = ~asked.objects.any(1).reshape(len(asked), -1)
    c.numbers |= {"dimensions": list(own), "tau": tau, "attended": int(rows.sum())}
    c.numbers["weight on sinks"] = float(weight[:, : len(inner)].mean())
    c.tables["Layer by layer"] = [
        {
            "layer": layer,
            "attended patches a picture": attended[:, i].sum(-1).mean(),
            "massive patches a picture": massive[:, i].sum(-1).mean(),
            "both": sinks[:, i].sum(-1).mean(),
            "first token is massive": seen.tokens(own)[:, i, 0].mean(),
            "weight on sinks of any kind": weight[:, i].mean(),
        }
        for i, layer in enumerate(later)
    ]
    setting.progress(1, 3, "sinks hidden")
    c[AS_IS] = asked_pictures.answered(model, asked)
    _without_sinks(c, setting, asked, sinks.any(1), behind, rng)
    setting.progress(2, 3, "attention redistributed")
    make = partial(Redistribute, layers=inner, image=asked.image, dimensions=own, tau=tau, keep=o.keep)

    def given(ratio: float, on=asked, **how) -> np.ndarray:
        edit = make(min_nonsink_ratio=ratio, **how)
        return asked_pictures.answered(model, on, under=lambda rows: edit.on(model))

    gains = {ratio: given(ratio, chosen_on).mean() for ratio in RATIOS}
    best = max(RATIOS, key=lambda ratio: gains[ratio])
    c[GIVEN], c[ALL_HEADS] = given(best), given(best, choose="all")
    c.draws[RANDOM_HEADS] = [
        given(best, choose="random", seed=setting.seed * 997 + i) for i in range(o.draws)
    ]
    c.add(MOVED, _moved(model, asked, make(min_nonsink_ratio=best)), unit="share of a row")
    c.numbers["ratio"] = best
    c.tables["Ratio, on the pictures for choosing"] = [
        {"ratio": ratio, "right": gain, "as it is": asked_pictures.answered(model, chosen_on).mean()}
        for ratio, gain in gains.items()
    ]
    return c


def _without_sinks(c, setting, asked, sinks: np.ndarray, behind: np.ndarray, rng) -> None:
    """Right answers in pictures with sinks: as they are, without sinks, without as many patches of objects."""
    rows, model = np.flatnonzero(sinks.any(1)), setting.model
    c.numbers["with sinks"] = len(rows)
    if not len(rows):
        return
    some = asked.at(rows)
    c.add(SINKS_BEHIND, _share(sinks & behind, sinks)[rows], within=SHARE, unit="share of patches")
    c.add(ALL_BEHIND, behind[rows].mean(1), within=SHARE, unit="share of patches")

    def hidden(patches: np.ndarray, those=some) -> np.ndarray:
        away = those.keys(patches)[:, None]
        return asked_pictures.answered(
            model, those, under=lambda rows: hidden_keys.hidden_keys(model, away[rows])
        )

    c[SHOWN], c[NO_SINKS] = c[AS_IS][rows], hidden(sinks[rows])
    wide = sinks[rows].sum(1) <= (~behind[rows]).sum(1)
    c.numbers |= {"with objects": int(wide.sum()), "objects too small": int((~wide).sum())}
    if not wide.any():
        return
    c.add(NO_SINKS_TOO, c[NO_SINKS][wide], within=SHARE)
    few, objects = some.at(np.flatnonzero(wide)), rows[wide]
    c.draws[NO_OBJECTS] = [
        hidden(_of_objects(behind[objects], sinks[objects].sum(1), rng), few)
        for _ in range(setting.options.draws)
    ]


def _of_objects(behind: np.ndarray, many: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """So many random patches of each picture, all of objects."""
    at_random = rng.random(behind.shape) - behind  # patches of objects come last
    return at_random.argsort(1).argsort(1) >= behind.shape[1] - many[:, None]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """What share of the patches of each picture, layers together; 0 where there are none."""
    axes = tuple(range(1, whole.ndim))
    return part.sum(axes) / np.maximum(whole.sum(axes), 1)


def _beside(attended: np.ndarray, massive: np.ndarray) -> np.ndarray:
    """What share of the other patches of its picture and layer is massive, on average over attended patches."""
    many, others = attended.sum(2), ~attended
    share = (massive & others).sum(2) / np.maximum(others.sum(2), 1)
    return (share * many).sum(1) / np.maximum(many.sum(1), 1)


def _moved(model, asked, edit: Redistribute) -> np.ndarray:
    """What share of the last token's row is elsewhere under the edit, in its first layer, heads averaged."""
    whole, layer = range(asked.prompt.shape[1]), probe.wiring(model).attention_layers.index(edit.layers[0])
    before = span_attention.span_attention(model, asked.prompt, whole)[:, layer]
    with edit.on(model):
        after = span_attention.span_attention(model, asked.prompt, whole)[:, layer]
    return np.abs(after - before).sum(-1).mean(-1) / 2


ABLE = needs(
    at_least(AS_IS, RIGHT), f"{{{AS_IS}:.0%}} of the questions are answered rightly; 60% is asked for"
)
ATTENDED = needs(
    lambda c: c.numbers["attended"] >= ENOUGH,
    "{attended} pictures have a patch that draws much; 20 are asked for",
)
SINKS = needs(
    lambda c: c.numbers["with sinks"] >= ENOUGH,
    "{with sinks} pictures have a sink patch; twenty are asked for",
)
WIDE = needs(
    lambda c: c.numbers["with objects"] >= ENOUGH,
    "{with objects} pictures with sinks have as many patches of objects, {objects too small} have fewer; twenty are "
    "asked for",
)
WEIGHT = needs(
    at_least("weight on sinks", MOVES),
    "words give {weight on sinks:.1%} to sinks of any kind; 1% is asked for",
)
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
    "harmless": Claim(
        "nothing is lost when sink patches are hidden",
        no_worse(NO_SINKS, SHOWN, within=WITHIN),
        why="two points, in the pictures that have sinks",
        where="analysis of visual sinks: masking",
        needs=[ABLE, SINKS],
    ),
    "objects": Claim(
        "more is lost when as many patches of objects are hidden",
        below(NO_OBJECTS, NO_SINKS_TOO),
        why="the same pictures, paired, those whose objects have as many patches",
        where="analysis of visual sinks: masking",
        needs=[ABLE, SINKS, WIDE],
    ),
    "moves": Extension(
        "redistribution moves attention",
        above(MOVED, by=MOVES),
        why="a hundredth of a row, heads averaged; what moves nothing could not help",
        needs=[WEIGHT],
    ),
    **{
        name: Claim(
            f"redistribution in heads that look at the picture raises accuracy: {against}",
            above(GIVEN, over),
            paper=paper,
            why="the same questions, paired",
            where=where,
            needs=[ABLE, WEIGHT],
        )
        for name, against, over, paper, where in (
            (
                "raises",
                "against the model as it is",
                AS_IS,
                "GQA 62.0 to 63.5, VizWiz 50.0 to 53.7",
                "results",
            ),
            (
                "all heads",
                "against all heads",
                ALL_HEADS,
                "without selection accuracy collapses",
                "ablations",
            ),
            (
                "random heads",
                "against random heads of the same layers",
                RANDOM_HEADS,
                None,
                "a control of ours",
            ),
        )
    },
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
