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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.core.stats.association import auroc
from workbench.core.stats.intervals import SHARE
from workbench.heads import contrastive_map, crops
from workbench.heads.localisation import lift_apart, locate
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Criterion, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, correlates, permuted, slopes, tells
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import DESCRIBE
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import asked_pictures, span_attention

# Criteria, fixed before anything was measured.
ENOUGH, RIGHT = 20, 0.6
FIRST_SEED = 22_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape")
WAVES = (0.0, 0.04, 0.08, 0.12, 0.16)
KEEP, PARTS = (0.2, 0.4, 0.6), (2, 3)  # the paper's ranges
FLOORS = (0.001, 0.01, 0.1, 1.0)  # of a table: shares of a row of the pattern
NATS = "nats, mean over heads and layers"
OBJECTS, BY_OBJECTS = "number of objects", "entropy by objects"
HEIGHT, BY_WAVES = "height of waves", "entropy by waves"
DEPTH, BY_LAYER = "layer", "entropy in a layer"
ENTROPY, WRONG = "entropy of answers", "the answer is wrong"
PLAIN, CONTRAST = "plain map", "contrast"
SEEN, TRUE, MOVED = "whole picture", "asked object alone is left", "region of the contrast, at another place"


@dataclass(frozen=True, kw_only=True)
class CarveSizes:
    """Sizes.

    Attributes:
        pictures: For each number of objects and each height of waves.
        choosing, questions: On which layer and region are chosen, and others that are reported.
        noise: Of the pixels, where answers are to be wrong.
        draws: Places of the region at random.
    """

    pictures: int = 120
    choosing: int = 200
    questions: int = 600
    noise: float = 0.12
    draws: int = 5


def measure(setting: Setting) -> Conditions:
    """Measure entropy as pictures get complex, divide maps, and show the model what they leave.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: CarveSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    worlds = [World(objects=tuple(float(i == n) for i in range(4))) for n in range(4)]
    _complexity(c, setting, seed, worlds, [1.0, 2, 3, 4], BY_OBJECTS, OBJECTS)
    _complexity(c, setting, seed + 10, [World(texture=t) for t in WAVES], WAVES, BY_WAVES, HEIGHT)
    setting.progress(1, 3, "maps")
    world = World(objects=(0, 0, 1, 1), noise=o.noise)
    chosen_on, asked = (
        asked_pictures.ask_pictures(model, world, kinds=KINDS, n=n, seed=seed + 20 + i)
        for i, n in enumerate((o.choosing, o.questions))
    )
    c[SEEN] = asked_pictures.answered(model, asked)
    wrong = 1 - c[SEEN]
    c.add(WRONG, wrong, within=SHARE, unit="share of answers")
    c.add(ENTROPY, _entropy(model, asked).mean(1), unit=NATS)
    c.numbers |= {"wrong": int(wrong.sum()), "right": int(c[SEEN].sum())}
    first, found = _maps(model, chosen_on), _maps(model, asked)
    c.tables["Floor under the general map, on the pictures for choosing: lift above others"] = [
        {
            "floor": words,
            **{
                f"layer {i}": _best(_maps(model, chosen_on, at)[CONTRAST][:, i, None], chosen_on)[1]
                for i in range(found[CONTRAST].shape[1])
            },
        }
        for words, at in (("median of the map", None), *((f"{x:g}", x) for x in FLOORS))
    ]
    rows = []
    for name, maps in found.items():
        setting.progress(2, 3, f"regions by the {name}")
        layer, lift = _best(first[name], chosen_on)
        shapes = list(product(KEEP, PARTS))
        shares = [_shown(model, chosen_on, _regions(first[name][:, layer], s)).mean() for s in shapes]
        shape = shapes[int(np.argmax(shares))]
        regions = _regions(maps[:, layer], shape)
        lies = locate(maps[:, layer] + 1e-12, asked.own, asked.others)
        c.add(f"pointing, {name}", lies.pointing, within=SHARE, unit="share of maps that point at the object")
        c.add(f"mass, {name}", lies.mass, within=SHARE, unit="share of the map on the object")
        c.add(f"lift, {name}", lies.lift, unit="weight of a patch, 1 for an even map")
        c.add(f"lift of others, {name}", lies.other_lift, unit="weight of a patch, 1 for an even map")
        c[f"region of the {name}"] = _shown(model, asked, regions)
        c.numbers[name] = {"layer": layer, "keep": shape[0], "parts": shape[1]}
        rows.append({"map": name, "layer": layer, "share kept": shape[0], "parts": shape[1]})
        rows[-1] |= {"patches left": float(np.sum(regions, (1, 2)).mean()), "lift above others": lift}
    c.tables["What was chosen on other pictures"] = rows
    rng = np.random.default_rng([seed, 3])
    c.draws[MOVED] = [_shown(model, asked, crops.elsewhere(regions, rng)) for _ in range(o.draws)]
    c[TRUE] = _shown(model, asked, asked.own)
    shown = {name: maps[0, c.numbers[name]["layer"]] for name, maps in found.items()}
    caption = f"Where the model looks when it is asked: {asked.questions[0].text}"
    c.pictures[caption] = HeadMaps.of(
        np.stack(list(shown.values()))[None], ["first picture"], list(shown), title=caption
    )
    return c


def _complexity(
    c: Conditions,
    setting: Setting,
    seed: int,
    worlds: Sequence[World],
    levels: Sequence[float],
    name: str,
    along: str,
) -> None:
    """Entropy and right answers in pictures of growing complexity; of the first kind also layer by layer."""
    n, model = setting.options.pictures, setting.model
    sets = [
        asked_pictures.ask_pictures(model, world, kinds=KINDS, n=n, seed=seed + i)
        for i, world in enumerate(worlds)
    ]
    layers = np.concatenate([_entropy(model, each) for each in sets])
    c.add(name, layers.mean(1), unit=NATS)
    c.add(along, np.repeat(np.asarray(levels, dtype=float), n), unit=along)
    c.tables[f"Entropy by {along}"] = [
        {
            along: level,
            "entropy": c[name][i * n : (i + 1) * n].mean(),
            "right": asked_pictures.answered(model, each).mean(),
        }
        for i, (level, each) in enumerate(zip(levels, sets, strict=True))
    ]
    if name == BY_OBJECTS:
        rows, depth = layers.shape
        question = np.repeat(np.arange(rows), depth).tolist()
        c.add(BY_LAYER, layers.flatten(), unit="nats, mean over heads", clusters=question)
        c.add(DEPTH, np.tile(np.arange(depth, dtype=float), rows), unit="layer", clusters=question)


def _entropy(model, asked: asked_pictures.AskedPictures) -> np.ndarray:
    """Entropy of every question in every layer; a head that gives the picture nothing is left out."""
    return np.nanmean(span_attention.attention_entropy(model, asked.prompt), axis=2)


def _best(maps: np.ndarray, asked: asked_pictures.AskedPictures) -> tuple[int, float]:
    """The layer whose lift on the asked object exceeds that on the others most, and by how much."""
    lifts = [lift_apart(each, asked.own, asked.others) for each in maps.swapaxes(0, 1)]
    return int(np.argmax(lifts)), max(lifts)


def _maps(model, asked: asked_pictures.AskedPictures, floor: float | None = None) -> dict[str, np.ndarray]:
    """The plain map and the contrast of every layer, heads averaged: ``(question, layer, row, column)``."""
    prompts = asked.prompt, asked.asking(model, DESCRIBE)
    own, general = (span_attention.span_attention(model, each).mean(2) for each in prompts)
    own, general = (each.reshape(*each.shape[:2], *asked.grid) for each in (own, general))
    return {PLAIN: own, CONTRAST: contrastive_map.contrastive_map(own, general, floor=floor)}


def _regions(maps: np.ndarray, shape: tuple[float, int]) -> np.ndarray:
    keep, parts = shape
    return np.stack([contrastive_map.contrast_region(m, keep=keep, components=parts) for m in maps])


def _shown(model, asked: asked_pictures.AskedPictures, regions: np.ndarray) -> np.ndarray:
    """Right answers when nothing but a region of each picture is left."""
    return asked_pictures.answered(model, asked, asked.covering(model, regions))


def _dealt(
    words: str, statistic: Callable[[np.ndarray, np.ndarray], float], name: str, labels: str
) -> Criterion:
    """A statistic of values and labels is larger than with labels dealt at random."""
    return permuted(
        f"{words} of {name} and {labels}",
        lambda given, c: statistic(c[name], np.asarray(given, dtype=float)),
        lambda c: c[labels].tolist(),
        draws=1000,
    )


def _ranks(name: str, along: str) -> Criterion:
    return correlates(name, along) & _dealt("rank correlation", spearman, name, along)


def _over_chance(values: np.ndarray, truth: np.ndarray) -> float:
    return auroc(values, truth > 0.5) - 0.5


ABLE = needs(at_least(SEEN, RIGHT), f"{{{SEEN}:.0%}} of the questions are answered rightly; 60% is asked for")
ERRS = needs(
    lambda c: min(c.numbers["wrong"], c.numbers["right"]) >= ENOUGH,
    "{wrong} answers are wrong and {right} right; twenty of both are asked for",
)
BY_PLAIN, BY_CONTRAST = f"region of the {PLAIN}", f"region of the {CONTRAST}"
PAIRED = "the same questions, paired"
CLAIMS = {
    **{
        name: Claim(
            f"attention spreads as pictures get complex: {what}",
            _ranks(value, along),
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
        tells(ENTROPY, WRONG) & _dealt("AUROC, less 0.5,", _over_chance, ENTROPY, WRONG),
        paper="accuracy 76% to 65% as entropy goes from 5.1 to 6.8",
        why="all pictures are of one kind, so that complexity differs little",
        where="analysis of entropy and accuracy",
        needs=[ABLE, ERRS],
    ),
    **{
        what: Claim(
            f"the contrast of two maps lies on the asked object more than the plain map: {what}",
            above(f"{what}, {CONTRAST}", f"{what}, {PLAIN}"),
            why=f"{PAIRED}; each map has the layer that is best for it on other pictures",
            where="section on contrasting attention",
            needs=[ABLE],
        )
        for what in ("pointing", "mass")
    },
    "others": Claim(
        "the contrast lies on the asked object more than on another object of the picture",
        above(f"lift, {CONTRAST}", f"lift of others, {CONTRAST}"),
        why="any map may prefer objects to background, so that the other objects are the control",
        where="a control of ours",
        needs=[ABLE],
    ),
    **{
        name: Claim(
            f"asking again with the region of the contrast alone raises accuracy: {against}",
            above(BY_CONTRAST, over),
            paper=paper,
            why=f"{PAIRED}; pictures of three or four objects",
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
        "six inks at most are on a drawn picture; their number is that of its objects",
        where="analysis of entropy and complexity",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="carve",
        title="Focusing by Contrastive Attention: Enhancing VLMs' Visual Reasoning",
        source="Ge et al. 2025",
        model="zoo:vlm",
        options=CarveSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
