"""Scanpath: a decoder over objects says better than one over patches where a search looks, step by step.

The first object of a picture is searched for by a rule that is known: who searches looks at the objects of its color,
the nearest first, from the middle on, until it is reached. Two decoders read frozen features, one of objects (with
their true outlines), one of patches; both start alike and are trained on the same steps, with two seeds, anew in
every run. A scanpath is judged by its edit distance over objects. Only a summary of the paper was read. Rate and
steps were chosen on other pictures, where all but the claims about more objects could be seen.

Controls:
- the same decoder, told the target of another picture
- as many random objects of the picture, none twice
- all objects, the nearest first, as many
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.heads.scanpath import scanpath_distance
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import at_most, below
from workbench.papers.kit.frames import Control
from workbench.papers.kit.trained_arms import TRAININGS, add_each_training, in_each
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.training import search_decoder, side_by_side

# Criteria, fixed before anything was measured.
LEARNED, RATE = 0.6, 1e-2
FIRST_SEED = 45_000_000  # pictures of this paper: no other seed of pictures is near
OBJECTS, PATCHES, DEALT = "over objects", "over patches", "over objects, another target"
RANDOM, NEAREST = "random objects", "the nearest objects"
NEW = "more objects, {}"
FEW: tuple[float, ...] = (0, 0, 0, 1, 1)
MANY: tuple[float, ...] = (0, 0, 0, 0, 0, 1, 1)


@dataclass(frozen=True, kw_only=True)
class ScanpathSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(
        1500, "pictures drawn to train on; those that hold the target twice are left out", least=20
    )
    pictures: int = size(1000, "others drawn to judge on, of each kind", least=20)
    layer: int = size(1, "after which patches are read")
    noise: float = size(0.04, "of pixels")
    steps: int = size(400, "of training", least=1)


def measure(setting: Setting) -> Conditions:
    """Train decoders over objects and over patches, twice, and compare their scanpaths with those of the rule.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: ScanpathSizes = setting.options
    c = Conditions(unit="share of fixations that differ", within=SHARE, seed=setting.seed)
    first = FIRST_SEED + 10 * setting.seed
    draw = partial(search_decoder.draw_searches, setting.model, layer=o.layer)
    few, many = (World(objects=objects, alike=0.35, noise=o.noise) for objects in (FEW, MANY))
    trained_on = draw(few, n=o.training, seed=first)
    judged_on = {"{}": draw(few, n=o.pictures, seed=first + 1), NEW: draw(many, n=o.pictures, seed=first + 2)}
    found: list[dict[str, np.ndarray]] = []
    for i in setting.each(range(TRAININGS), "trainings"):
        seed = 100 * setting.seed + i
        arms = _trained(trained_on, o, seed=seed)
        values = {}
        for kind, scenes in judged_on.items():
            for name, paths in _paths(arms, scenes, seed=seed).items():
                apart = [scanpath_distance(*both) for both in zip(paths, scenes.paths, strict=True)]
                values[kind.format(name)] = np.array(apart)
        found.append(values)
    add_each_training(c, found, within=SHARE, unit=c.unit)
    c.numbers |= {
        "fixations": float(np.mean([len(path) for path in judged_on["{}"].paths])),
        "fixations among more objects": float(np.mean([len(path) for path in judged_on[NEW].paths])),
    }
    return c


def _trained(scenes: Any, o: ScanpathSizes, *, seed: int) -> dict[str, Any]:
    """Both decoders of one seed."""
    width, words = scenes.patches.features.shape[-1], scenes.target.shape[-1]
    places = {OBJECTS: scenes.objects, PATCHES: scenes.patches}
    steps = {name: search_decoder.steps_of(each, scenes.paths) for name, each in places.items()}
    arms = side_by_side.begin_alike(
        {name: lambda: search_decoder.ScanpathDecoder(width, words) for name in places}, seed=seed
    )

    def loss(name: str, arm: Any, items: Any) -> Any:
        return search_decoder.step_loss(arm, places[name], scenes.target, steps[name].at(items))

    side_by_side.step_alike(arms, loss, items=len(steps[OBJECTS].next), steps=o.steps, rate=RATE, seed=seed)
    return arms


def _paths(arms: dict[str, Any], scenes: Any, *, seed: int) -> dict[str, list[tuple[int, ...]]]:
    """Scanpaths of the decoders and of what they are compared with."""
    rows, random = range(len(scenes)), np.random.default_rng([45, seed])
    decode, other = search_decoder.decode, scenes.target[derangement(len(scenes), random)]
    lengths = [len(path) for path in scenes.paths]
    counts = scenes.shown.layout.n.tolist()
    return {
        OBJECTS: decode(arms[OBJECTS], scenes.objects, scenes.target, rows),
        PATCHES: decode(arms[PATCHES], scenes.patches, scenes.target, rows),
        DEALT: decode(arms[OBJECTS], scenes.objects, other, rows),
        RANDOM: [tuple(random.permutation(n)[:k].tolist()) for n, k in zip(counts, lengths, strict=True)],
        NEAREST: [
            search_decoder.nearest_first(scenes.shown.layout, row)[:k]
            for row, k in zip(rows, lengths, strict=True)
        ],
    }


FIT = needs(
    at_most(PATCHES, LEARNED),
    f"over patches {{{PATCHES}:.0%}} of the fixations differ; at most 60% are asked for",
)
SUMMARY = "summary, reconstructed"
CLAIMS = {
    "target": Control(
        "the decoder over objects uses what is searched for",
        in_each(below, OBJECTS, DEALT),
        why="the same decoder is told the target of another picture",
        models=2,
    ),
    "objects": Claim(
        "scanpaths over objects are nearer to those of the search than scanpaths over patches",
        in_each(below, OBJECTS, PATCHES),
        why="same start, features and steps; a patch counts as the object that covers most of it",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "random": Control(
        "scanpaths over objects are nearer to the search than as many random objects",
        in_each(below, OBJECTS, RANDOM),
        why="the right number of fixations is given to the random ones",
        models=2,
    ),
    "nearest": Control(
        "scanpaths over objects are nearer to the search than the nearest objects of any color",
        in_each(below, OBJECTS, NEAREST),
        why="half of the rule without what is searched for; the right number of fixations is given",
        models=2,
    ),
    "unseen": Claim(
        "scanpaths over objects are nearer also with more objects than were trained on",
        in_each(below, NEW.format(OBJECTS), NEW.format(PATCHES)),
        why="six and seven objects, where training had four and five",
        where=SUMMARY,
        needs=[FIT],
        models=2,
    ),
    "unseen, random": Control(
        "with more objects, too, scanpaths over objects are nearer than random objects",
        in_each(below, NEW.format(OBJECTS), NEW.format(RANDOM)),
        why="whether it still searches, not only whether it beats patches",
        models=2,
    ),
    "people": untried(
        "it says better than others where people look, on shelves of a shop too",
        "similarity of scanpaths with those of people",
        "gaze of people cannot be had here; the rule that is followed is ours",
        where=SUMMARY,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="scanpath",
        source="OAT 2024",
        model="zoo:marked",
        options=ScanpathSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
