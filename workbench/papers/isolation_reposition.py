"""Subjects of one picture kept apart, and features of a reference moved to where they are needed.

Isolation: patches of one half look at patches of that half alone, and at the words of the object that is asked for
there. In `zoo:painter-leaky` what belongs to one object shows in the other; in `zoo:painter` nothing does. The half of
an object is no result here, it is given: pictures are judged by colours, count, binding and whole objects.
Reposition, on `zoo:painter`: a caption without a colour is painted while its patches look at those of a reference,
one object of that shape in the other half. The reference is moved onto the place where the same noise gives an object
without it. A caption without a colour is none that was trained on, and few of its objects are whole: only the colour is
asked for. The way was tried on seed 9, where all arms were seen.

Controls:
- patches dealt to two subjects at random, as many each, with the same words
- isolation among patches alone, and from the words alone
- the reference where it is, the reference moved anywhere, and no reference
- the reference of another picture, moved
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Control, Extension, Paper, above, needs, no_worse
from workbench.papers.kit.criteria import at_least, at_most, below
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, Reconstructed, untried_reconstructed
from workbench.papers.kit.picture_verdicts import add_verdicts
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.flat_shapes import draw_many, draw_unlike
from workbench.tasks.canvas.picture_reader import leaks
from workbench.tasks.canvas.words import GRID

with lazily():
    from workbench.edits import isolation, reposition
    from workbench.model.flow_painter import sample

# Criteria, fixed before anything was measured.
MIXES, CLEAN, WITHIN, NOTHING = 0.1, 0.02, 0.05, 0.0
FIRST_SEED, GOOD = 50_000_000, "zoo:painter"
PLAIN, ISOLATED, DEALT = "not isolated", "isolated", "patches dealt at random"
AMONG, WORDS_ALONE = "isolated among patches alone", "isolated from words alone"
NONE, MOVED, STILL = "no reference", "moved reference", "reference where it is"
ANYWHERE, FOREIGN = "reference moved anywhere", "another's reference, moved"
JUDGED = ("colour", "count", "binding", "intact")
FELT, COLOUR = "slope from one subject to the other", "the reference's colour"


@dataclass(frozen=True, kw_only=True)
class IsolationSizes(Sizes):
    """How much is painted."""

    pictures: int = size(80, "captions of two objects of different colours", least=4)
    references: int = size(48, "captions that are painted with a reference", least=4)


def measure(setting: Setting) -> Conditions:
    """Paint captions with and without isolation, on the model and on the good painter; then with references.

    Raises:
        ModelError: for a model that does not paint.
    """
    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed
    c = Conditions(unit="share of pictures", seed=setting.seed)
    drawings = draw_unlike(seed, o.pictures)
    asked = [drawing.items for drawing in drawings]
    patches, words = isolation.subjects_of(drawings)
    dealt, isolate = isolation.dealt(patches, seed=seed), partial(isolation.isolate, setting.model)
    ways: dict[str, Any] = {
        PLAIN: None,
        ISOLATED: lambda step: isolate(patches, words),
        DEALT: lambda step: isolate(dealt, words),
        AMONG: lambda step: isolate(patches, words, to_words=False),
        WORDS_ALONE: lambda step: isolate(patches, words, among=False),
    }
    for name in setting.each([*ways], "ways to isolate"):
        _judge(c, name, sample.paint(setting.model, asked, seed=seed, under=ways[name]))
    c.numbers[FELT] = isolation.slope_between_subjects(setting.model)
    good = setting.model if setting.name == GOOD else setting.open(GOOD)
    _judge(c, f"{PLAIN}, {GOOD}", sample.paint(good, asked, seed=seed))
    _reposition(c, sample.require_painter(good), o.references, seed + 1)
    return c


def _judge(c: Conditions, name: str, painted: Any) -> None:
    """Whether each picture is as asked, and in which share of its halves the other's colour shows."""
    mixed = [leaks(seen, asked) for seen, asked in zip(painted.read(), painted.captions, strict=True)]
    c.add(f"mixed, {name}", np.array(mixed, dtype=float), within=(0.0, 1.0), unit="share of halves")
    add_verdicts(c, name, painted.verdicts(), JUDGED)


def _reposition(c: Conditions, painter: Any, n: int, seed: int) -> None:
    """Paint captions without a colour beside references, and see whose colour the object has."""
    drawings = draw_many(seed, range(n), objects=1)
    own = reposition.references_elsewhere(drawings)
    others = [*own[1:], *own[:1]]
    plain = reposition.paint_beside(painter, drawings, seed=seed)
    draw = np.random.default_rng([seed, 1])
    ways: dict[str, Any] = {
        NONE: (),
        MOVED: (own, reposition.moves_onto(own, plain)),
        STILL: (own, [(0, 0)] * len(own)),
        ANYWHERE: (own, [tuple(map(int, draw.integers(0, GRID, 2))) for _ in own]),
        FOREIGN: (others, reposition.moves_onto(others, plain)),
    }
    for name, way in ways.items():
        pictures = reposition.paint_beside(painter, drawings, *way, seed=seed)
        c[f"{COLOUR}, {name}"], c[f"intact, {name}"] = reposition.colours_taken(pictures, drawings, own)


NO_MIX = "{mixed, " + PLAIN + ":.0%} of the halves mix: there is nothing to isolate"
MIXED = [needs(at_least(f"mixed, {PLAIN}", MIXES), NO_MIX)]
CLAIMS = {
    "nothing": Claim(
        "isolated subjects do not feel each other",
        at_most(FELT, NOTHING),
        why="the slope of one half's prediction along the other half's state; masked weights are exactly 0",
        where="definition",
    ),
    "mixes": Reconstructed(
        "without isolation subjects mix",
        above(f"mixed, {PLAIN}", by=MIXES),
        why="the colour of one object in the half of the other, in more than a tenth of the halves",
    ),
    "good": Extension(
        f"in {GOOD} nothing mixes, so that there is nothing to isolate",
        at_most(f"mixed, {PLAIN}, {GOOD}", CLEAN),
        why="the same captions and noise",
    ),
    "isolated": Reconstructed(
        "isolated subjects mix less",
        below(f"mixed, {ISOLATED}", f"mixed, {PLAIN}"),
        why="the same captions and noise, paired",
        needs=MIXED,
    ),
    "dealt": Control(
        "subjects mix less than when as many patches, dealt at random, are isolated",
        below(f"mixed, {ISOLATED}", f"mixed, {DEALT}"),
        why="as many patches and the same words, dealt at random",
        needs=MIXED,
    ),
    "binding": Reconstructed(
        "colours and shapes of both are right more often",
        above(f"binding, {ISOLATED}", f"binding, {PLAIN}"),
        why="read off the picture; the half alone is given",
        needs=MIXED,
    ),
    "whole": Extension(
        "isolated objects are no less whole",
        no_worse(f"intact, {ISOLATED}", f"intact, {PLAIN}", within=WITHIN),
        why="a twentieth may be lost",
    ),
    "both": Extension(
        "patches and words have to be isolated together",
        above(f"binding, {ISOLATED}", f"binding, {WORDS_ALONE}")
        & above(f"binding, {ISOLATED}", f"binding, {AMONG}"),
        why="each of the two alone leaves the other way open",
        needs=MIXED,
    ),
    "used": Extension(
        "a reference's colour is taken over",
        above(f"{COLOUR}, {MOVED}", f"{COLOUR}, {NONE}"),
        why="captions without a colour, the same noise without a reference",
    ),
    "repositioned": Reconstructed(
        "a reference is used better where its subject is needed than where it was",
        above(f"{COLOUR}, {MOVED}", f"{COLOUR}, {STILL}"),
        why="the same reference in the other half",
    ),
    "anywhere": Control(
        "a reference is used better where its subject is needed than moved anywhere",
        above(f"{COLOUR}, {MOVED}", f"{COLOUR}, {ANYWHERE}"),
        why="moved by random numbers of patches",
    ),
    "foreign": Control(
        "the colour that is taken over is that of the own reference, not of another one",
        above(f"{COLOUR}, {MOVED}", f"{COLOUR}, {FOREIGN}"),
        why="another picture's reference on the same place",
    ),
    "photographs": untried_reconstructed(
        "subjects of a story keep their looks over pictures",
        "likeness of subjects in generated photographs",
        NO_PHOTOGRAPHS,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="isolation-reposition",
        source="IR-Diffusion 2024",
        model="zoo:painter-leaky",
        options=IsolationSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
