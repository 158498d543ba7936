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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.heads import crops
from workbench.heads.localisation import lift_apart, locate
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import DESCRIBE
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import asked_maps, asked_pictures

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
class WhereToLookSizes:
    """Sizes.

    Attributes:
        choosing, questions: On which the layer of a map is chosen, and others that are reported.
        noise: Of pixels.
        draws: Random crops of each picture.
    """

    choosing: int = 150
    questions: int = 500
    noise: float = 0.08
    draws: int = 5

    def __post_init__(self) -> None:
        if min(self.choosing, self.questions) < 4 or self.draws < 1:
            raise OptionError("four questions and one random crop are the least")


def measure(setting: Setting) -> Conditions:
    """Ask about tiny objects, enlarge them, look where the model looks, and show it that part.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: WhereToLookSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    world = World(objects=(0, 1, 1, 1), noise=o.noise, tiny=True)
    chosen_on, asked = (
        asked_pictures.ask_pictures(model, world, kinds=["colour", "shape"], n=n, seed=seed + i)
        for i, n in enumerate((o.choosing, o.questions))
    )
    c = Conditions(unit=ANSWERS, within=SHARE, seed=setting.seed)

    def right(pixels: Sequence[np.ndarray]) -> np.ndarray:
        return (asked_pictures.said(model, asked.showing(model, pixels)) == asked.right).astype(float)

    def cropped(windows: Sequence[crops.Window]) -> np.ndarray:
        pairs = zip(asked.scenes, windows, strict=True)
        return right([crops.enlarged(scene.pixels, window, asked.grid) for scene, window in pairs])

    def resized(size: str) -> np.ndarray:
        pairs = zip(asked.scenes, asked.questions, strict=True)
        return right([scene.changed(q.asked[0], size=size).pixels for scene, q in pairs])

    c[PLAIN] = right([scene.pixels for scene in asked.scenes])
    c[SMALL], c[LARGE] = resized("small"), resized("large")
    setting.progress(1, 3, "maps")
    layers, found = _chosen(model, chosen_on), _maps(model, asked)
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
        c[CROP[name]] = cropped([crops.best_window(each, [HALF]) for each in chosen])
        two = cropped([crops.best_window(each, [(2, 2), HALF]) for each in chosen])
        rows += [
            {"map": MAPS[name], "layer": layer, "chosen": "yes" if layer == layers[name] else ""}
            | _where(maps[:, layer], asked, wrong)
            | ({"crop of one of two sizes": two.mean()} if layer == layers[name] else {})
            for layer in range(maps.shape[1])
        ]
    c.tables["Every map"] = rows
    c[TRUE] = cropped([crops.best_window(own.astype(float), [HALF]) for own in asked.own])
    places = asked.grid[0] - HALF[0] + 1, asked.grid[1] - HALF[1] + 1
    rng = np.random.default_rng([seed, 2])
    draws = [
        cropped(
            [
                crops.Window(int(rng.integers(places[0])), int(rng.integers(places[1])), *HALF)
                for _ in asked.scenes
            ]
        )
        for _ in range(o.draws)
    ]
    c[RANDOM] = np.mean(draws, axis=0)
    caption = f"Where the model looks when it is asked: {asked.questions[0].text}"
    first = {MAPS[name]: maps[0, layers[name]] for name, maps in found.items()}
    c.pictures[caption] = HeadMaps.of(
        np.stack(list(first.values()))[None], ["first picture"], list(first), title=caption
    )
    return c


def _maps(model, asked: asked_pictures.AskedPictures) -> dict[str, np.ndarray]:
    """The three maps, ``(question, layer, row, column)``; the one along pixels has one layer."""
    general = asked.asking(model, DESCRIBE)
    return {
        "relative": asked_maps.relative_attention(model, asked.prompt, general),
        "gradient": asked_maps.gradient_attention(model, asked.prompt),
        "pixels": asked_maps.pure_gradient(model, asked.prompt, general)[:, None],
    }


def _chosen(model, asked: asked_pictures.AskedPictures) -> dict[str, int]:
    """The layer of each map whose lift on the asked object exceeds that on the others most, right or wrong."""
    best = {}
    for name, maps in _maps(model, asked).items():
        apart = [lift_apart(maps[:, layer], asked.own, asked.others) for layer in range(maps.shape[1])]
        best[name] = int(np.argmax(apart))
    return best


def _where(maps: np.ndarray, asked: asked_pictures.AskedPictures, wrong: np.ndarray) -> dict[str, float]:
    """Where a map lies, over all questions and over those that are answered wrongly."""
    lies = locate(maps + 1e-12, asked.own, asked.others)
    row = {"lift": lies.lift.mean(), "of others": lies.other_lift.mean(), "pointing": lies.pointing.mean()}
    if wrong.any():
        row |= {"lift, wrong": lies.lift[wrong].mean(), "of others, wrong": lies.other_lift[wrong].mean()}
    return row


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
        "photographs and models of seven billion weights cannot be had here",
        paper="TextVQA 47.8 to 55.2 (relative attention), 56.1 (gradient), 51.7 (pixels)",
        where="results, as a later paper reports them",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="where-to-look",
        title="MLLMs Know Where to Look: Training-free Perception of Small Visual Details with Multimodal LLMs",
        source="Zhang et al. 2025",
        model="zoo:vlm",
        options=WhereToLookSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
