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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Control, Extension, Paper, above, no_worse, untried
from workbench.papers.kit.claims import needs
from workbench.papers.kit.criteria import at_least, at_most, below
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, RECONSTRUCTED
from workbench.papers.kit.picture_verdicts import add_verdicts
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, Item, draw_many
from workbench.tasks.canvas.picture_reader import leaks, read_picture
from workbench.tasks.canvas.words import GRID, HALF, OBJECT, OBJECTS, PATCH, ROLES, SIDES, SLOTS

with lazily():
    from workbench.edits import isolation
    from workbench.model.flow_painter import sample

# Criteria, fixed before anything was measured.
MIXES, CLEAN, WITHIN, NOTHING = 0.1, 0.02, 0.05, 0.0
FIRST_SEED, GOOD = 50_000_000, "zoo:painter"
PLAIN, ISOLATED, DEALT = "not isolated", "isolated", "patches dealt at random"
AMONG, WORDS_ALONE = "isolated among patches alone", "isolated from words alone"
NONE, MOVED, STILL, ANYWHERE, FOREIGN = (
    "no reference",
    "moved reference",
    "reference where it is",
    "reference moved anywhere",
    "another's reference, moved",
)
JUDGED = ("colour", "count", "binding", "intact")
FELT = "slope from one subject to the other"


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
    drawings = [d for d in draw_many(seed, range(2 * o.pictures), objects=2) if _apart(d)][: o.pictures]
    ways = _ways(setting.model, drawings, seed)
    for done, (name, under) in enumerate(ways.items(), start=1):
        _judge(c, name, sample.paint(setting.model, [d.items for d in drawings], seed=seed, under=under))
        setting.progress(done, len(ways) + 6, name)
    c.numbers[FELT] = _felt(setting.model)
    good = setting.model if setting.name == GOOD else setting.open(GOOD)
    _judge(c, f"{PLAIN}, {GOOD}", sample.paint(good, [d.items for d in drawings], seed=seed))
    _reposition(c, setting, good, seed + 1)
    return c


def _apart(drawing: Drawing) -> bool:
    return drawing.items[0].colour != drawing.items[1].colour


def _ways(model: Any, drawings: Sequence[Drawing], seed: int) -> dict[str, Any]:
    import torch

    n = GRID * GRID
    patches = isolation.halves(n, first_side=[SIDES.index(d.items[0].side) for d in drawings])
    words = torch.arange(len(SLOTS)).div(len(ROLES), rounding_mode="floor").expand(len(drawings), -1)
    generator = torch.Generator().manual_seed(seed)
    dealt = torch.stack([row[torch.randperm(n, generator=generator)] for row in patches])
    return {
        PLAIN: None,
        ISOLATED: lambda step: isolation.isolate(model, patches, words),
        DEALT: lambda step: isolation.isolate(model, dealt, words),
        AMONG: lambda step: isolation.isolate(model, patches, words, to_words=False),
        WORDS_ALONE: lambda step: isolation.isolate(model, patches, words, among=False),
    }


def _judge(c: Conditions, name: str, painted: Any) -> None:
    """Whether each picture is as asked, and in which share of its halves the other's colour shows."""
    mixed = [leaks(seen, asked) for seen, asked in zip(painted.read(), painted.captions, strict=True)]
    c.add(f"mixed, {name}", np.array(mixed, dtype=float), within=(0.0, 1.0), unit="share of halves")
    add_verdicts(c, name, painted.verdicts(), JUDGED)


def _felt(model: Any) -> float:
    """The largest slope of what is predicted for one half along the state of the other half, under isolation."""
    import torch

    items = (Item("red", "disc", "left"), Item("blue", "square", "right"))
    words = torch.from_numpy(word_numbers([items]))
    x = sample.noise(0, range(1), side=GRID * PATCH).requires_grad_(True)
    patches = isolation.halves(GRID * GRID, first_side=[0])
    own = torch.tensor([[0] * len(ROLES) + [1] * len(ROLES)])
    with torch.enable_grad(), isolation.isolate(model, patches, own):
        found = sample.predict(model, x, torch.tensor([0.5]), words)[..., :HALF].square().sum()
    return float(torch.autograd.grad(found, x)[0][..., HALF:].abs().max())


def _reposition(c: Conditions, setting: Setting, model: Any, seed: int) -> None:
    """Paint captions without a colour beside references, and see whose colour the object has."""
    import torch

    drawings = draw_many(seed, range(setting.options.references), objects=1)
    words = torch.from_numpy(word_numbers([d.items for d in drawings]))
    words[:, SLOTS.index(f"{OBJECTS[0]} colour")] = 0
    references = [
        _reference(d, other) for d, other in zip(drawings, drawings[1:] + drawings[:1], strict=True)
    ]
    shown = sample.from_pixels(torch.from_numpy(np.stack([r.pixels for r in references])))
    told = torch.from_numpy(word_numbers([r.items for r in references]))
    plain, _ = sample.paint_words(model, words, seed=seed)
    moves = [_move(reference, picture) for reference, picture in zip(references, plain.numpy(), strict=True)]
    draw = np.random.default_rng([seed, 1])
    anywhere = [tuple(map(int, draw.integers(0, GRID, 2))) for _ in drawings]
    ways: dict[str, Any] = {NONE: None, MOVED: moves, STILL: [(0, 0)] * len(moves), ANYWHERE: anywhere}
    for name, moved in ways.items():
        under = moved and isolation.ReferenceLooks(model, shown, told, moves=moved, seed=seed)
        pictures, _ = sample.paint_words(model, words, seed=seed, under=under)
        _consistent(c, name, pictures.numpy(), drawings, references)
    turned = [_move(r, p) for r, p in zip(references[1:] + references[:1], plain.numpy(), strict=True)]
    under = isolation.ReferenceLooks(model, shown.roll(-1, 0), told.roll(-1, 0), moves=turned, seed=seed)
    pictures, _ = sample.paint_words(model, words, seed=seed, under=under)
    _consistent(c, FOREIGN, pictures.numpy(), drawings, references)


def _reference(drawing: Drawing, other: Drawing) -> Drawing:
    """One object of the drawing's shape in the other half, in the colour and at the height of another drawing."""
    item = drawing.items[0]
    side = SIDES[1 - SIDES.index(item.side)]
    return Drawing(
        (Item(other.items[0].colour, item.shape, side),),
        ((other.corners[0][0], SIDES.index(side) * HALF + 1),),
    )


def _move(reference: Drawing, picture: np.ndarray) -> tuple[int, int]:
    """By how many patches a reference has to move onto the first object of a picture; none where there is none."""
    seen = read_picture(picture)
    if not seen:
        return 0, 0
    top, left = reference.corners[0]
    middle = (OBJECT - 1) / 2
    return round((seen[0].row - middle - top) / PATCH), round((seen[0].column - middle - left) / PATCH)


def _consistent(
    c: Conditions, name: str, pictures: np.ndarray, drawings: Sequence[Drawing], references: Sequence[Drawing]
) -> None:
    same, whole = [], []
    for picture, drawing, reference in zip(pictures, drawings, references, strict=True):
        seen = read_picture(picture)
        own = (drawing.items[0].side, reference.items[0].colour)
        same.append(float(own in {(each.side, each.colour) for each in seen}))
        whole.append(float(bool(seen) and all(each.intact for each in seen)))
    c[f"the reference's colour, {name}"], c[f"intact, {name}"] = np.array(same), np.array(whole)


def _colour(name: str) -> str:
    return f"the reference's colour, {name}"


MIXED = [
    needs(
        at_least(f"mixed, {PLAIN}", MIXES),
        "{mixed, " + PLAIN + ":.0%} of the halves mix: there is nothing to isolate",
    )
]
CLAIMS = {
    "nothing": Claim(
        "isolated subjects do not feel each other",
        at_most(FELT, NOTHING),
        why="the slope of one half's prediction along the other half's state; masked weights are exactly 0",
        where="definition",
    ),
    "mixes": Claim(
        "without isolation subjects mix",
        above(f"mixed, {PLAIN}", by=MIXES),
        why="the colour of one object in the half of the other, in more than a tenth of the halves",
        where=RECONSTRUCTED,
    ),
    "good": Extension(
        f"in {GOOD} nothing mixes, so that there is nothing to isolate",
        at_most(f"mixed, {PLAIN}, {GOOD}", CLEAN),
        why="the same captions and noise",
    ),
    "isolated": Claim(
        "isolated subjects mix less",
        below(f"mixed, {ISOLATED}", f"mixed, {PLAIN}"),
        why="the same captions and noise, paired",
        where=RECONSTRUCTED,
        needs=MIXED,
    ),
    "dealt": Control(
        "it is the subjects' own patches that matter",
        below(f"mixed, {ISOLATED}", f"mixed, {DEALT}"),
        why="as many patches and the same words, dealt at random",
        needs=MIXED,
    ),
    "binding": Claim(
        "colours and shapes of both are right more often",
        above(f"binding, {ISOLATED}", f"binding, {PLAIN}"),
        why="read off the picture; the half alone is given",
        where=RECONSTRUCTED,
        needs=MIXED,
    ),
    "whole": Extension(
        "objects are no less whole",
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
        above(_colour(MOVED), _colour(NONE)),
        why="captions without a colour, the same noise without a reference",
    ),
    "repositioned": Claim(
        "a reference is used better where its subject is needed than where it was",
        above(_colour(MOVED), _colour(STILL)),
        why="the same reference in the other half",
        where=RECONSTRUCTED,
    ),
    "anywhere": Control(
        "and better than anywhere",
        above(_colour(MOVED), _colour(ANYWHERE)),
        why="moved by random numbers of patches",
    ),
    "foreign": Control(
        "it is the reference's own colour",
        above(_colour(MOVED), _colour(FOREIGN)),
        why="another picture's reference on the same place",
    ),
    "photographs": untried(
        "subjects of a story keep their looks over pictures",
        "likeness of subjects in generated photographs",
        NO_PHOTOGRAPHS,
        where=RECONSTRUCTED,
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
