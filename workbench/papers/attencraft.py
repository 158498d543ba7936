"""Concept masks from a painter's attention, and whether they disentangle two new words learned from one picture.

A mask is read from one pass over a noisy picture, under a caption that names shapes and sides but no colour. Looks at
the shape's word are spread along what patches look at among themselves, and cut at a threshold. Layer, head, spread
and threshold are chosen on other pictures, for looks alone as well. Then two new words for colours are learned from
each picture by its pixels, without and with a loss that keeps the looks at a word inside its mask. Both words are then
asked for where they were and with the sides exchanged. The rate of learning and the weight of that loss were chosen on
seed 9, where guided words were seen too. The default is the leaky painter: the good one does not mix two words.

Controls:
- looks at the shape's word alone, with the layer, head and threshold that suit them best
- looks spread along what another picture's patches look at
- the objects of another picture
- words learned under each other's masks, and under the objects' true masks
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Control, Extension, Paper, above, no_worse, room, untried
from workbench.papers.kit.criteria import at_most
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, RECONSTRUCTED
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.flat_shapes import Drawing, draw_unlike
from workbench.tasks.canvas.words import OBJECTS, SLOTS

with lazily():
    from workbench.heads import concept_mask, word_maps
    from workbench.model.flow_painter import sample
    from workbench.training import flow_painter, new_words

# Criteria, fixed before anything was measured.
MOST, WITHIN, CLOSE = 0.95, 0.05, 1e-6
FIRST_SEED = 49_000_000
TIME = 0.5
SHAPES = [SLOTS.index(f"{each} shape") for each in OBJECTS]
SPREAD, ALONE, FOREIGN = "spread looks", "looks alone", "spread by another picture"
ELSEWHERE = "spread looks, another picture's objects"
PLAIN, GUIDED, CROSSED, TRUE = "not guided", "own masks", "each other's masks", "true masks"
EARLY = "own masks, times near noise"
OWN, OTHER, WHOLE = "own colour", "the other's colour", "intact"
drawn = partial(draw_unlike, differing=("colour", "shape"))


@dataclass(frozen=True, kw_only=True)
class AttenCraftSizes(Sizes):
    """How much is masked, learned and painted."""

    choosing: int = size(16, "pictures on which layer, head, spread and threshold are chosen", least=2)
    pictures: int = size(48, "others whose masks are judged", least=4)
    pairs: int = size(24, "pictures of which two words are learned", least=2)
    steps: int = size(100, "of learning", least=1)


def measure(setting: Setting) -> Conditions:
    """Judge masks against the drawn objects, then learn words under them and read what they paint.

    Raises:
        ModelError: for a model that does not paint.
    """
    import torch

    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed
    painter = sample.require_painter(setting.model)
    chosen, alone = _chosen(painter, drawn(seed, o.choosing))
    drawings = drawn(seed + 1, o.pictures)
    c = Conditions(unit="intersection over union", seed=setting.seed)
    looks, objects = _looks(painter, drawings), word_maps.object_patches(drawings)
    masks = concept_mask.concept_masks(looks, SHAPES, chosen)
    found = {
        SPREAD: (masks, objects),
        ALONE: (concept_mask.concept_masks(looks, SHAPES, alone), objects),
        FOREIGN: (concept_mask.concept_masks(looks, SHAPES, chosen, roll=1), objects),
        ELSEWHERE: (masks, objects.roll(1, 0)),
    }
    for name, both in found.items():
        c[name] = concept_mask.mask_overlap(*both).mean(1).numpy()
    for name, masking in ((SPREAD, chosen), (ALONE, alone)):
        c.numbers |= {f"{key}, {name}": value for key, value in asdict(masking).items()}
    first = looks.cross[:, 0, 0, :, 1]
    same = concept_mask.concept_map(first, torch.eye(first.shape[-1]).expand_as(looks.own[:, 0, 0]), power=3)
    c.numbers["moved by patches that look at themselves"] = float((same - first).abs().max())
    _learn(c, setting, painter, chosen)
    return c


def _looks(painter: Any, drawings: Sequence[Drawing]) -> concept_mask.PictureLooks:
    words = new_words.class_words(drawings)
    return concept_mask.picture_looks(
        painter, flow_painter.pixels_of(drawings), words, t=TIME, seed=FIRST_SEED
    )


def _chosen(
    painter: Any, drawings: Sequence[Drawing]
) -> tuple[concept_mask.ConceptMasking, concept_mask.ConceptMasking]:
    """Return how masks fit the objects best, and the same of looks that are not spread."""
    objects = word_maps.object_patches(drawings)
    ranked = concept_mask.rank_maskings(_looks(painter, drawings), SHAPES, objects)
    return ranked[0], next(one for one in ranked if one.power == 0)


def _learn(c: Conditions, setting: Setting, painter: Any, chosen: concept_mask.ConceptMasking) -> None:
    """Learn two words a picture under each guidance; which share of the halves has its own and the other's colour."""
    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed + 2
    drawings = drawn(seed, o.pairs)
    own = concept_mask.concept_masks(_looks(painter, drawings), SHAPES, chosen)
    true = word_maps.object_patches(drawings)
    arms = {PLAIN: None, GUIDED: own, CROSSED: own.flip(1), TRUE: true, EARLY: own}
    rows = []
    for done, (name, masks) in enumerate(arms.items(), start=1):
        times: Any = "early" if name == EARLY else "uniform"
        tuning = new_words.WordTuning(steps=o.steps, times=times)
        made = new_words.learn_words(painter, drawings, masks, tuning=tuning, seed=seed)
        painted = new_words.painted_words(made, drawings, seed=seed)
        kinds = {"own": painted.own, "other's": painted.other, "intact": painted.intact}
        for what, values in zip((OWN, OTHER, WHOLE), kinds.values(), strict=True):
            c.add(f"{what}, {name}", values, within=SHARE, unit="share")
        rows.append({"learned": name} | {kind: float(values.mean()) for kind, values in kinds.items()})
        setting.progress(done, len(arms), name)
    c.tables["Colours in the halves where a word is asked for"] = rows


ROOM = [room(f"{OWN}, {PLAIN}", MOST, "{own colour, " + PLAIN + ":.0%} have their own colour without masks")]
CLAIMS = {
    "identity": Claim(
        "where patches look at themselves alone, the map is left as it is",
        at_most("moved by patches that look at themselves", CLOSE),
        why="an identity, up to rounding of float32",
        where="definition",
    ),
    "masks": Claim(
        "concept masks overlap their objects better than cross-attention alone",
        above(SPREAD, ALONE),
        why="the mean of two concepts, picture by picture; each way at its best on other pictures",
        where=RECONSTRUCTED,
    ),
    "own": Control(
        "masks spread by the picture's own self-attention are better than by another picture's",
        above(SPREAD, FOREIGN),
        why="the same looks, spread along those of another picture",
    ),
    "place": Control(
        "masks lie on the objects of their own picture",
        above(SPREAD, ELSEWHERE),
        why="objects stand in halves: some overlap comes from that alone",
    ),
    "disentangles": Claim(
        "guiding by the masks, each new word paints its own colour more often",
        above(f"{OWN}, {GUIDED}", f"{OWN}, {PLAIN}"),
        why="same start, times and noise; halves of a picture as it was and with the sides exchanged",
        where=RECONSTRUCTED,
        needs=ROOM,
    ),
    "mixes less": Claim(
        "guided by the masks, each new word paints the other word's colour less often",
        above(f"{OTHER}, {PLAIN}", f"{OTHER}, {GUIDED}"),
        why="a colour in the half where the other word is asked for",
        where=RECONSTRUCTED,
        needs=ROOM,
    ),
    "right masks": Control(
        "own masks serve better than each other's",
        above(f"{OWN}, {GUIDED}", f"{OWN}, {CROSSED}"),
        why="as large masks and the same loss, on the wrong objects",
        needs=ROOM,
    ),
    "whole": Extension(
        "objects are no less whole when guided by the masks",
        no_worse(f"{WHOLE}, {GUIDED}", f"{WHOLE}, {PLAIN}", within=WITHIN),
        why="a twentieth may be lost; colours that are right beside broken objects are no gain",
    ),
    "photographs": untried(
        "concepts are composed as well as by other methods in photographs",
        "likeness of pictures and texts",
        NO_PHOTOGRAPHS,
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="attencraft",
        source="Shentu et al. 2024",
        model="zoo:painter-leaky",
        options=AttenCraftSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
