"""Search asymmetry: which of two shapes is found sooner among the other, and whether training decides it.

Nine objects stand in a picture, eight of one shape and one of another; places are looked at in the order of their
likeness to what is searched for. Small readers of shapes are trained on frozen patches, in a world where discs are
common and squares rare, and in the reversed one, with two seeds, anew in every run. Only a summary of the paper was
read. Pixel noise is 0.25: with 0.1 all targets were found at once. Shapes and noise were chosen on other pictures,
where one training of each world was seen.

Controls:
- worlds in which two other shapes are skewed, each way
- a search in random order
- for the model itself, other pictures than those on which the pair of shapes was chosen
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below, interval_excludes, sign_changes
from workbench.papers.kit.frames import Control
from workbench.papers.kit.trained_arms import TRAININGS, add_trainings, in_each, of_training
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.words import N_CELLS, SHAPES

with lazily():
    from workbench.heads import visual_search
    from workbench.training import skewed_shapes

# Criteria, fixed before anything was measured.
LEARNED = 0.5
FIRST_SEED = 46_000_000  # pictures of this paper: no other seed of pictures is near
DISC, SQUARE, TRIANGLE, STAR = (SHAPES.index(name) for name in ("disc", "square", "triangle", "star"))
DISCS, SQUARES, TRIANGLES, STARS = "discs common", "squares common", "triangles common", "stars common"
WORLDS = {
    DISCS: (DISC, SQUARE),
    SQUARES: (SQUARE, DISC),
    TRIANGLES: (TRIANGLE, STAR),
    STARS: (STAR, TRIANGLE),
}
ASYMMETRY, STEPS, NAMED = "asymmetry, {}", "steps, {}", "named, {}"
OWN, TURNED, OTHERS = "asymmetry of the model", "turned by discs and squares", "turned by two other shapes"
UNIT = "steps"


@dataclass(frozen=True, kw_only=True)
class SearchSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(600, "pictures of nine objects that readers are trained on", least=20)
    displays: int = size(400, "displays of each kind", least=4)
    own: int = size(
        120, "displays of each pair of shapes for the model itself, half of them to choose a pair", least=8
    )
    layer: int = size(0, "after which readers read patches")
    own_layer: int = size(1, "after which the model's own patches are searched")
    noise: float = size(0.25, "of pixels")
    steps: int = size(300, "of training", least=1)


def measure(setting: Setting) -> Conditions:
    """Search discs among squares and squares among discs, in readers of four worlds and in the model itself.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: SearchSizes = setting.options
    c = Conditions(unit=UNIT, within=None, seed=setting.seed)
    first = FIRST_SEED + 1000 * setting.seed
    draw = partial(visual_search.full_displays, setting.model, noise=o.noise)
    raw = draw(n=o.training, seed=first, layer=o.layer)
    seen = visual_search.scaled(raw, raw)
    both = {
        odd[0]: visual_search.scaled(draw(n=o.displays, seed=first + 1, layer=o.layer, odd=odd), raw)
        for odd in ((DISC, SQUARE), (SQUARE, DISC))
    }
    found: dict[str, list[np.ndarray]] = {}
    worlds = {name: skewed_shapes.Skew(*pair) for name, pair in WORLDS.items()}
    for i in setting.each(range(TRAININGS), "trainings"):
        arms = skewed_shapes.train_skewed(seen, worlds, steps=o.steps, seed=100 * setting.seed + i)
        searched = {name: skewed_shapes.search_pair(arm, seen, both) for name, arm in arms.items()}
        values = {
            form.format(name): value
            for name, one in searched.items()
            for form, value in zip((ASYMMETRY, STEPS, NAMED), one, strict=True)
        }
        values[TURNED] = searched[SQUARES].asymmetry - searched[DISCS].asymmetry
        values[OTHERS] = searched[STARS].asymmetry - searched[TRIANGLES].asymmetry
        for name, each in values.items():
            found.setdefault(name, []).append(each)
    for name, trainings in found.items():
        share = name.startswith("named")
        add_trainings(c, name, trainings, within=SHARE if share else None, unit="share" if share else UNIT)
    _own(c, setting, first + 100)
    return c


def _own(c: Conditions, setting: Setting, seed: int) -> None:
    """The asymmetry of every pair of shapes in the model itself, and of the largest one on other displays."""
    o, model, pairs = setting.options, setting.model, {}
    how = {"layer": o.own_layer, "noise": o.noise}
    known = visual_search.full_displays(model, n=o.training // 2, seed=seed, **how)
    for pair in setting.each(list(combinations(range(len(SHAPES)), 2)), "pairs of shapes"):
        name = "{} in a field of {}, less the reverse".format(*(SHAPES[shape] for shape in pair))
        pairs[name] = visual_search.shape_asymmetry(model, known, pair, n=o.own, seed=seed + 1, **how)
    half = o.own // 2
    chosen = max(pairs, key=lambda name: abs(pairs[name][:half].mean()))
    c.add(OWN, pairs[chosen][half:], unit=UNIT)
    c.numbers["pair"] = chosen
    c.tables["Every pair in the model itself"] = [
        {"pair": name, "chosen on": float(v[:half].mean()), "judged on": float(v[half:].mean())}
        for name, v in pairs.items()
    ]


def _reverses() -> Any:
    found = sign_changes(ASYMMETRY.format(SQUARES), ASYMMETRY.format(DISCS))
    for i in range(TRAININGS):
        names = (of_training(ASYMMETRY.format(world), i) for world in (SQUARES, DISCS))
        found = found & sign_changes(*names)
    return found


FIT = needs(
    at_least(NAMED.format(TRIANGLES), LEARNED),
    f"where discs and squares are as frequent {{{NAMED.format(TRIANGLES)}:.0%}} of them are named; half is asked for",
)
CHANCE = (N_CELLS + 1) / 2
SUMMARY = "summary, reconstructed"
CLAIMS = {
    "searches": Control(
        "places are not looked at in random order",
        below(STEPS.format(DISCS), by=CHANCE) & below(STEPS.format(SQUARES), by=CHANCE),
        why="a target among nine is found after five steps in random order",
        models=2,
    ),
    "model": Claim(
        "a trained model finds one shape among another quicker than the other way round",
        interval_excludes(OWN),
        why="of ten pairs the most asymmetric is chosen on one half of the displays and judged on the other",
        where=SUMMARY,
    ),
    "follows": Claim(
        "the asymmetry follows what was common in training",
        in_each(below, ASYMMETRY.format(DISCS), ASYMMETRY.format(SQUARES)),
        why="steps to a disc among squares, less the reverse; same start and displays, worlds that mirror each other",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "reverses": Claim(
        "in the world where squares are common the asymmetry is reversed",
        _reverses(),
        why="its sign changes, in both trainings",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "others": Control(
        "it takes these two shapes: skewing two others turns it less",
        in_each(above, TURNED, OTHERS),
        why="the same change of frequencies, of triangles and stars",
        needs=[FIT],
        models=2,
    ),
    "people": untried(
        "it is that of people, in six experiments that are known",
        "reaction times of people against steps of the model",
        "reaction times of people, and models trained on photographs, cannot be had here",
        where=SUMMARY,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="search-asymmetry",
        source="Gupta et al. 2021",
        model="zoo:marked",
        options=SearchSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
