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
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Control, Extension, Paper, above, no_worse, room, untried
from workbench.papers.kit.criteria import at_most
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, RECONSTRUCTED
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.flat_shapes import Drawing, draw_many
from workbench.tasks.canvas.picture_reader import read_picture
from workbench.tasks.canvas.words import OBJECTS, SLOTS

with lazily():
    from workbench.heads import concept_mask, word_maps
    from workbench.model.flow_painter import sample
    from workbench.training import new_words

# Criteria, fixed before anything was measured.
MOST, WITHIN, CLOSE = 0.95, 0.05, 1e-6
FIRST_SEED = 49_000_000
TIME, POWERS, THRESHOLDS = 0.5, (0, 1, 2), (0.3, 0.5, 0.7)
SHAPES = [SLOTS.index(f"{each} shape") for each in OBJECTS]
SPREAD, ALONE, FOREIGN, ELSEWHERE = (
    "spread looks",
    "looks alone",
    "spread by another picture",
    "spread looks, another picture's objects",
)
PLAIN, GUIDED, CROSSED, TRUE = "not guided", "own masks", "each other's masks", "true masks"
EARLY = "own masks, times near noise"


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
    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed
    painter = sample.require_painter(setting.model)
    chosen, foreign = _chosen(painter, pictures_of(seed, o.choosing))
    drawings = pictures_of(seed + 1, o.pictures)
    c = Conditions(unit="intersection over union", seed=setting.seed)
    looks, own = _looks(painter, drawings), truth(drawings)
    found = {
        SPREAD: _masks(looks, **chosen),
        ALONE: _masks(looks, **foreign),
        FOREIGN: _masks(looks, **chosen, roll=1),
    }
    for name, mask in found.items():
        c[name] = concept_mask.mask_overlap(mask, own).mean(1).numpy()
    c[ELSEWHERE] = concept_mask.mask_overlap(found[SPREAD], own.roll(1, 0)).mean(1).numpy()
    c.numbers |= {f"{key}, {SPREAD}": value for key, value in chosen.items()}
    c.numbers |= {f"{key}, {ALONE}": value for key, value in foreign.items()}
    same = concept_mask.concept_map(looks.cross[:, 0, 0, :, 1], _identity(looks.own[:, 0, 0]), power=3)
    c.numbers["moved by patches that look at themselves"] = float(
        (same - looks.cross[:, 0, 0, :, 1]).abs().max()
    )
    _learn(c, setting, painter, chosen)
    return c


def pictures_of(seed: int, n: int) -> list[Drawing]:
    """Return the first pictures of a seed whose two objects differ in colour and in shape."""
    drawn = draw_many(seed, range(8 * n + 8), objects=2)
    apart = [
        d for d in drawn if d.items[0].shape != d.items[1].shape and d.items[0].colour != d.items[1].colour
    ]
    return apart[:n]


def truth(drawings: Sequence[Drawing]) -> Any:
    """Return the patches of both objects: (picture, concept, patch)."""
    import torch

    masks = [[word_maps.covered_patches(mask).reshape(-1) for mask in d.masks] for d in drawings]
    return torch.from_numpy(np.array(masks))


def _looks(painter: Any, drawings: Sequence[Drawing]) -> Any:
    import torch

    clean = sample.from_pixels(torch.from_numpy(np.stack([d.pixels for d in drawings])))
    return concept_mask.picture_looks(
        painter, clean, new_words.class_words(drawings), t=TIME, seed=FIRST_SEED
    )


def _identity(own: Any) -> Any:
    import torch

    return torch.eye(own.shape[-1]).expand_as(own)


def _masks(
    looks: Any, *, layer: int, head: int, own_layer: int, power: int, threshold: float, roll: int = 0
) -> Any:
    """Masks of both concepts; with ``roll`` along what another picture's patches look at."""
    cross = looks.cross[:, layer, head][..., SHAPES].movedim(-1, 1)  # (picture, concept, patch)
    own = looks.own[:, own_layer].mean(1).roll(roll, 0)[:, None].expand(-1, len(SHAPES), -1, -1)
    return concept_mask.concept_mask(concept_mask.concept_map(cross, own, power=power), threshold=threshold)


def _chosen(painter: Any, drawings: Sequence[Drawing]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how masks fit the objects best, and the same of looks that are not spread."""
    looks, own = _looks(painter, drawings), truth(drawings)
    layers, heads = looks.cross.shape[1:3]
    every: list[dict[str, Any]] = [
        dict(zip(("layer", "head", "own_layer", "power", "threshold"), each, strict=True))
        for each in product(range(layers), range(heads), range(layers), POWERS, THRESHOLDS)
    ]
    fits = [float(concept_mask.mask_overlap(_masks(looks, **how), own).mean()) for how in every]
    best = sorted(range(len(every)), key=lambda i: -fits[i])
    return every[best[0]], next(every[i] for i in best if every[i]["power"] == 0)


def _learn(c: Conditions, setting: Setting, painter: Any, chosen: dict[str, Any]) -> None:
    """Learn two words a picture under each guidance; which share of the halves has its own and the other's colour."""
    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed + 2
    drawings = pictures_of(seed, o.pairs)
    own, true = _masks(_looks(painter, drawings), **chosen), truth(drawings)
    arms = {PLAIN: None, GUIDED: own, CROSSED: own.flip(1), TRUE: true, EARLY: own}
    rows = []
    for done, (name, masks) in enumerate(arms.items(), start=1):
        times: Any = "early" if name == EARLY else "uniform"
        tuning = new_words.WordTuning(steps=o.steps, times=times)
        made = new_words.learn_words(painter, drawings, masks, tuning=tuning, seed=seed)
        judged = np.mean([_judged(made, drawings, swapped, seed) for swapped in (False, True)], axis=0)
        for what, values in zip(("own colour", "the other's colour", "intact"), judged.T, strict=True):
            c.add(f"{what}, {name}", values, within=(0.0, 1.0), unit="share")
        rows.append(
            {"learned": name} | dict(zip(("own", "other's", "intact"), judged.mean(0).tolist(), strict=True))
        )
        setting.progress(done, len(arms), name)
    c.tables["Colours in the halves where a word is asked for"] = rows


def _judged(made: Any, drawings: Sequence[Drawing], swapped: bool, seed: int) -> np.ndarray:
    """Shares of each picture's halves with the own and with the other's colour, and whether its objects are whole."""
    pictures, _ = sample.paint_words(made, new_words.new_captions(drawings, swapped=swapped), seed=seed)
    found = []
    for drawing, picture in zip(drawings, pictures.numpy(), strict=True):
        seen = read_picture(picture)
        there = {(each.side, each.colour) for each in seen}
        items = drawing.items
        sides = [item.side for item in items][:: -1 if swapped else 1]
        own = [(side, item.colour) in there for side, item in zip(sides, items, strict=True)]
        other = [(side, item.colour) in there for side, item in zip(sides, items[::-1], strict=True)]
        found.append([np.mean(own), np.mean(other), float(bool(seen) and all(each.intact for each in seen))])
    return np.array(found)


ROOM = [
    room(f"own colour, {PLAIN}", MOST, "{own colour, " + PLAIN + ":.0%} have their own colour without masks")
]
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
        "it is the picture's own self-attention that matters",
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
        above(f"own colour, {GUIDED}", f"own colour, {PLAIN}"),
        why="same start, times and noise; halves of a picture as it was and with the sides exchanged",
        where=RECONSTRUCTED,
        needs=ROOM,
    ),
    "mixes less": Claim(
        "and the other word's colour less often",
        above(f"the other's colour, {PLAIN}", f"the other's colour, {GUIDED}"),
        why="a colour in the half where the other word is asked for",
        where=RECONSTRUCTED,
        needs=ROOM,
    ),
    "right masks": Control(
        "own masks serve better than each other's",
        above(f"own colour, {GUIDED}", f"own colour, {CROSSED}"),
        why="as large masks and the same loss, on the wrong objects",
        needs=ROOM,
    ),
    "whole": Extension(
        "objects are no less whole",
        no_worse(f"intact, {GUIDED}", f"intact, {PLAIN}", within=WITHIN),
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
