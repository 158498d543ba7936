"""Where a model looks when it is asked for a small detail, and whether showing it that part enlarged helps.

The paper says that answers about small objects are wrong because of the objects' size, that the model looks at the
right place even when it is wrong, and that a crop around that place raises accuracy without any training. Three maps
say where it looks: attention relative to that under a general instruction, attention times what it is worth to the
answer, and the answer's slope along pixels.

All objects are six pixels wide, smaller than a patch, and the model is asked for a colour or a shape. Pixel noise is
0.08: a first look at other pictures had it wrong in a third of the questions there, and in half at 0.12. The layer of a
map is chosen on other pictures than those reported. A crop is half as wide as the picture and is shown in its place,
because the model reads one picture: the paper shows both.

Controls:
- the same picture with the asked object alone made large
- the other objects of the picture, never its background
- a crop at a random place, and one around the asked object itself
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.core.loading import lazily
from workbench.heads.localisation import locate
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import NO_PHOTOGRAPHS
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import asked_pictures, enlarging

# Criteria, fixed before anything was measured.
RIGHT, ENOUGH = 0.9, 20
FIRST_SEED = 23_000_000  # pictures of this paper: no other seed of pictures is near
HALF = (3, 3)  # patches: a window of half a picture's side
ANSWERS = "share of right answers"
PLAIN, LARGE, SMALL = "tiny objects", "the asked object made large", "the asked object made small"
TRUE, RANDOM = "crop around the asked object", "crop at a random place"
MAPS = {"relative": "relative attention", "gradient": "gradient attention", "pixels": "slope along pixels"}
CROP = {name: f"crop by {words}" for name, words in MAPS.items()}
OWN = {name: f"{words} on the asked object, wrong answers" for name, words in MAPS.items()}
OTHER = {name: f"{words} on another object, wrong answers" for name, words in MAPS.items()}


@dataclass(frozen=True, kw_only=True)
class WhereToLookSizes(Sizes):
    """Numbers of questions and of random draws."""

    choosing: int = size(150, "questions on which the layer of a map is chosen", least=4)
    questions: int = size(500, "others that are reported", least=4)
    noise: float = size(0.08, "of pixels")
    draws: int = size(5, "random crops of each picture", least=1)


def measure(setting: Setting) -> Conditions:
    """Ask about tiny objects, enlarge them, look where the model looks, and show it that part.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    world = World(objects=(0, 1, 1, 1), noise=o.noise, tiny=True)
    ask = partial(asked_pictures.ask_pictures, model, world, kinds=["colour", "shape"])
    chosen_on, asked = ask(n=o.choosing, seed=seed), ask(n=o.questions, seed=seed + 1)
    again, c = enlarging.Enlarging(model=model, asked=asked), Conditions(unit=ANSWERS, seed=setting.seed)
    c[PLAIN], c[SMALL], c[LARGE] = again.as_it_is(), again.resized("small"), again.resized("large")
    setting.progress(1, 3, "maps")
    layers, found = enlarging.best_layers(model, chosen_on), enlarging.three_maps(model, asked)
    wrong = c[PLAIN] < 0.5
    c.numbers |= {"wrong": int(wrong.sum()), "layers": layers}
    rows = []
    for name, maps in found.items():
        setting.progress(1, 3, f"crops by {MAPS[name]}")
        chosen = maps[:, layers[name]]
        lies = locate(chosen + 1e-12, asked.own, asked.others)
        if wrong.any():
            c.add(OWN[name], lies.lift[wrong], unit="weight of a patch, 1 for an even map")
            c.add(OTHER[name], lies.other_lift[wrong], unit="weight of a patch, 1 for an even map")
        c[CROP[name]], two = again.by_map(chosen, [HALF]), again.by_map(chosen, [(2, 2), HALF])
        rows += [
            {"map": MAPS[name], "layer": layer, "chosen": "yes" if layer == layers[name] else ""}
            | enlarging.where_row(maps[:, layer], asked, wrong)
            | ({"crop of one of two sizes": two.mean()} if layer == layers[name] else {})
            for layer in range(maps.shape[1])
        ]
    c.tables["Every map"] = rows
    c[TRUE], c[RANDOM] = again.by_map(asked.own, [HALF]), again.at_random(HALF, o.draws, [seed, 2])
    caption = f"Where the model looks when it is asked: {asked.questions[0].text}"
    first = {MAPS[name]: maps[0, layers[name]] for name, maps in found.items()}
    values = np.stack(list(first.values()))[None]
    c.pictures[caption] = HeadMaps.of(values, ["first picture"], list(first), title=caption)
    return c


ABLE = needs(at_least(LARGE, RIGHT), f"large objects are named in {{{LARGE}:.0%}}; 90% is asked for")
ERRS = needs(lambda c: c.numbers["wrong"] >= ENOUGH, "{wrong} answers are wrong; twenty are asked for")


def _crop_claim(name: str, over: str, says: str, where: str) -> Claim:
    return Claim(says, above(CROP[name], over), why="the same questions, paired", where=where, needs=[ABLE])


CLAIMS = {
    "size": Claim(
        "accuracy depends on the size of the object, causally",
        above(LARGE, PLAIN),
        why="nothing but the asked object's size differs, noise included",
        where="section on sensitivity to size",
        needs=[needs(at_least(LARGE, RIGHT), "large objects are not named either")],
    ),
    "enlarged": Claim(
        "showing the part around the object enlarged raises accuracy",
        above(TRUE, PLAIN),
        why="what a perfect crop gives is the most that a crop by a map can",
        where="section on sensitivity to size: crops by people",
        needs=[ABLE],
    ),
    **{
        f"looks, {name}": Claim(
            f"the model looks at the asked object even when it is wrong: {words}",
            above(OWN[name], OTHER[name]),
            why="weight of a patch, by size; the other objects are the control, since any map may prefer objects to "
            "background",
            where="analysis of where models look" if name == "relative" else "an extension of ours",
            needs=[ABLE, ERRS],
        )
        for name, words in MAPS.items()
    },
    **{
        f"crop, {name}": _crop_claim(name, PLAIN, f"a crop by {words} raises accuracy", "results on details")
        for name, words in MAPS.items()
    },
    **{
        f"random, {name}": _crop_claim(
            name, RANDOM, f"a crop by {words} is better than one at a random place", "a control of ours"
        )
        for name, words in MAPS.items()
    },
    "both": untried(
        "the picture and the crop together are better than the picture",
        "accuracy with both against the picture alone",
        "zoo:vlm reads one picture of 36 patches; a second one was never in its training",
        where="results on details",
    ),
    "benchmarks": untried(
        "accuracy on TextVQA and V* rises",
        "LLaVA-1.5 and InstructBLIP on photographs",
        NO_PHOTOGRAPHS,
        paper="TextVQA 47.8 to 55.2 (relative attention), 56.1 (gradient), 51.7 (pixels)",
        where="results, as a later paper reports them",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="where-to-look",
        source="Zhang et al. 2025",
        model="zoo:vlm",
        options=WhereToLookSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
