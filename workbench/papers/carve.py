"""Contrastive attention: what a question draws, divided by what the picture draws whatever is asked.

The paper says that attention spreads as pictures get complex, that it goes from the whole to a part with depth, and
that answers are wrong where it is spread. A map under the question divided by a map under a general instruction is said
to be the signal without the picture's noise. Hiding all but the region where it is large, and asking again, is said to
help in complex pictures.

Entropy is that of the last token's weights on the patches, in nats, heads and layers averaged. An answer is one token
here, so that later tokens do not count more. Complexity is the number of objects, or the height of the waves on the
ground. Where answers are to be wrong pixel noise is 0.12: in clean pictures the model is hardly ever wrong. Complex
pictures have three or four objects at that noise. Layer, share of patches and number of parts are chosen on other
pictures than those reported, for each map by itself. What is hidden has the median colour of the picture; nothing is
cropped.

Controls:
- shuffled labels
- the plain map, with a layer and a region chosen in the same way
- the other objects of the picture, never its background
- the same region at another place of the picture
- the region of the asked object itself
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, ranks_with, tells_beyond_deals, untried
from workbench.papers.kit.criteria import above, slopes
from workbench.papers.kit.frames import Control, add_layers, add_localisation, answers, enough
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import HEIGHT, OBJECTS, World

with lazily():
    from workbench.heads import asked_pictures, focus

# Criteria, fixed before anything was measured.
ENOUGH, RIGHT = 20, 0.6
FIRST_SEED = 22_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape")
KEEP, PARTS = (0.2, 0.4, 0.6), (2, 3)  # the paper's ranges
NATS = "nats, mean over heads and layers"
BY_OBJECTS, BY_WAVES = "entropy by objects", "entropy by waves"
DEPTH, BY_LAYER = "layer", "entropy in a layer"
ENTROPY, WRONG = "entropy of answers", "the answer is wrong"
PLAIN, CONTRAST = "plain map", "contrast"
SEEN, TRUE, MOVED = "whole picture", "asked object alone is left", "region of the contrast, at another place"


@dataclass(frozen=True, kw_only=True)
class CarveSizes(Sizes):
    """Numbers of questions and of random draws."""

    pictures: int = size(120, "for each number of objects and each height of waves")
    choosing: int = size(200, "questions on which layer and region are chosen")
    questions: int = size(600, "others that are reported")
    noise: float = size(0.12, "of the pixels, where answers are to be wrong")
    draws: int = size(5, "places of the region at random")


def measure(setting: Setting) -> Conditions:
    """Measure entropy as pictures get complex, divide maps, and show the model what they leave.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    layers = _complexity(c, setting, seed, BY_OBJECTS, OBJECTS)
    _complexity(c, setting, seed + 10, BY_WAVES, HEIGHT)
    add_layers(c, BY_LAYER, DEPTH, layers, unit="nats, mean over heads")
    setting.progress(1, 3, "maps")
    ask = partial(asked_pictures.ask_pictures, model, World(objects=(0, 0, 1, 1), noise=o.noise), kinds=KINDS)
    chosen_on, asked = ask(n=o.choosing, seed=seed + 20), ask(n=o.questions, seed=seed + 21)
    c[SEEN] = asked_pictures.answered(model, asked)
    c.add(WRONG, 1 - c[SEEN], within=SHARE, unit="share of answers")
    c.add(ENTROPY, focus.layer_entropy(model, asked).mean(1), unit=NATS)
    c.numbers |= {"wrong": int(c[WRONG].sum()), "right": int(c[SEEN].sum())}
    floors = "Floor under the general map, on the pictures for choosing: lift above others"
    c.tables[floors] = focus.floor_rows(model, chosen_on)
    setting.progress(2, 3, "regions")
    _regions(c, setting, chosen_on, asked, np.random.default_rng([seed, 3]))
    c[TRUE] = focus.left_alone(model, asked, asked.own)
    return c


def _regions(c: Conditions, setting: Setting, chosen_on, asked, rng: np.random.Generator) -> None:
    """Where each map lies, and what is answered when its region alone is left; chosen on other pictures."""
    found = focus.find_focus(setting.model, chosen_on, asked, keeps=KEEP, parts=PARTS)
    for each in found:
        add_localisation(c, each.name, each.lies)
        c[f"region of the {each.name}"] = focus.left_alone(setting.model, asked, each.regions)
        c.numbers[each.name] = {what: getattr(each.chosen, what) for what in ("layer", "keep", "parts")}
    c.tables["What was chosen on other pictures"] = [each.row() for each in found]
    how = {"draws": setting.options.draws, "rng": rng}
    c.draws[MOVED] = focus.left_elsewhere(setting.model, asked, found[-1].regions, **how)
    caption = f"Where the model looks when it is asked: {asked.questions[0].text}"
    c.pictures[caption] = focus.focus_picture(found, title=caption)


def _complexity(c: Conditions, setting: Setting, seed: int, name: str, along: str) -> np.ndarray:
    """Entropy and right answers in pictures of growing complexity; returns the entropy in every layer."""
    found = focus.by_complexity(setting.model, along, kinds=KINDS, n=setting.options.pictures, seed=seed)
    c.add(name, found.entropy.mean(1), unit=NATS)
    c.add(along, found.level, unit=along)
    c.tables[f"Entropy by {along}"] = found.rows()
    return found.entropy


ABLE = answers(SEEN, RIGHT)
ERRS = enough("wrong", "right", least=ENOUGH, of="{wrong} answers are wrong and {right} right")
BY_PLAIN, BY_CONTRAST = f"region of the {PLAIN}", f"region of the {CONTRAST}"
CLAIMS = {
    **{
        name: Claim(
            f"attention spreads as pictures get complex: {what}",
            ranks_with(value, along),
            why=f"nothing but the {along} is another",
            where="analysis of entropy and complexity",
        )
        for name, what, value, along in (
            ("objects", "more objects", BY_OBJECTS, OBJECTS),
            ("waves", "a rougher ground", BY_WAVES, HEIGHT),
        )
    },
    "depth": Claim(
        "maps go from the whole to a part with depth",
        slopes(BY_LAYER, DEPTH, falls=True),
        why="entropy is 0 on one patch; questions are drawn whole, with all their layers",
        where="analysis of layers",
    ),
    "tells": Claim(
        "wrong answers come with more spread attention than right ones",
        tells_beyond_deals(ENTROPY, WRONG),
        paper="accuracy 76% to 65% as entropy goes from 5.1 to 6.8",
        why="all pictures are of one kind, so that complexity differs little",
        where="analysis of entropy and accuracy",
        needs=[ABLE, ERRS],
    ),
    **{
        what: Claim(
            f"the contrast of two maps lies on the asked object more than the plain map: {what}",
            above(f"{what}, {CONTRAST}", f"{what}, {PLAIN}"),
            why="the same questions, paired; each map has the layer that is best for it on other pictures",
            where="section on contrasting attention",
            needs=[ABLE],
        )
        for what in ("pointing", "mass")
    },
    "others": Control(
        "the contrast lies on the asked object more than on another object of the picture",
        above(f"lift, {CONTRAST}", f"lift of others, {CONTRAST}"),
        why="any map may prefer objects to background, so that the other objects are the control",
        needs=[ABLE],
    ),
    **{
        name: Claim(
            f"asking again with the region of the contrast alone raises accuracy: {against}",
            above(BY_CONTRAST, over),
            paper=paper,
            why="the same questions, paired; pictures of three or four objects",
            where=where,
            needs=[ABLE, ERRS],
        )
        for name, against, over, paper, where in (
            ("helps", "against the whole picture", SEEN, "TextVQA 47.8 to 58.2 (LLaVA-1.5-7B)", "results"),
            ("plain", "against the region of the plain map", BY_PLAIN, None, "ablations"),
            ("place", "against the same region at another place", MOVED, None, "a control of ours"),
        )
    },
    "benchmarks": untried(
        "accuracy on V*, TextVQA and other sets of photographs rises",
        "LLaVA-1.5 and Qwen2.5-VL on photographs, the region cropped and enlarged",
        "photographs and models of seven billion weights cannot be had here, and zoo:vlm reads one size of picture",
        paper="V* 38.7 to 66.5 (LLaVA-1.5-7B), TextVQA 75.0 to 81.9 (Qwen2.5-VL-7B)",
        where="results",
    ),
    "colours": untried(
        "entropy rises with the colours of a picture",
        "entropy of the hue histogram of photographs",
        "a drawn picture has at most six colours, as many as objects: the two cannot be told apart",
        where="analysis of entropy and complexity",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="carve",
        source="Ge et al. 2025",
        model="zoo:vlm",
        options=CarveSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
