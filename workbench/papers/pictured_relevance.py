"""The part of the paper on relevance that is about pictures: areas that stand out of relevance maps, against masks.

Pictures of two to four objects, one of them in a white frame, are handed to a classifier that names that object. Pixels
get the relevance of what it says; the map is laid out in cells of two pixels, and areas that stand out of it are found
as for salient relevance. The mask has every cell with a pixel of the framed object or of its frame, which together
decide the answer.

Controls:
- the other objects of the picture, never its background
- the same areas moved to a random place of their picture
- the raw map, that of AttnLRP, and plain gradients, with and without the second step
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import CHANGE, SHARE
from workbench.engine.rules import Backward
from workbench.heads import crops
from workbench.heads.localisation import best_iou, locate, mass_inside
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions
from workbench.papers.kit.criteria import above, beats_draws
from workbench.papers.kit.frames import answers
from workbench.tasks.pictures.image import Picture
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import frame_map, owner_map
from workbench.tasks.scenes.words import N_CELLS
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.evaluate import pixel_relevance, salient
    from workbench.heads import drawn_pictures, prune_metrics

if TYPE_CHECKING:
    from workbench.heads.drawn_pictures import DrawnPictures

# Criteria, fixed before anything was measured.
MODEL, RIGHT, NOISE, SIDE, FIRST_SEED = "zoo:marked", 0.9, 0.04, 2, 9_000_000
K, SCALES = 64, (1, 2, 4)  # cells most like a cell: more than an object and its frame have
SALIENT, RAW, ATTN, PLAIN = "salient relevance", "CP-LRP", "AttnLRP", "gradient times pixel"
RULES: dict[str, Backward] = {RAW: "cp-lrp", ATTN: "attnlrp", PLAIN: "plain"}
SALIENT_PLAIN, MOVED = "gradient times pixel, salient", "salient areas moved at random"
SHORT = {PLAIN: "gradient", SALIENT: "salient", SALIENT_PLAIN: "gradient, sal."}  # over a picture
OWN, OTHER = "salient relevance on the framed object", "salient relevance on another object"
LOST, LOST_MOVED = "lost with salient areas covered", "lost with the same areas covered at random places"
ASKED, WEIGHT, PROBABILITY = (
    "pictures named rightly",
    "weight of a cell, 1 for an even map",
    "probability of the class",
)
OVERLAP, COVERINGS = "best intersection over union", 10


def add_pictures(c: Conditions, setting: Setting, n: int, draws: int) -> None:
    """Add areas of relevance maps against masks, and what is lost once they are covered.

    Args:
        n: How many pictures.
        draws: Of salient areas moved to random places.
    """
    model = setting.model if setting.name == MODEL else setting.open(MODEL)
    world, seed = World(marked=True, objects=(0, 1, 1, 1), noise=NOISE), FIRST_SEED + setting.seed
    drawn = drawn_pictures.draw_pictures(model, world, n=n, seed=seed)
    said = prune_metrics.predictions(model, drawn.prompt).probabilities
    named, (own, others) = said.argmax(-1), masks(drawn)
    right = named == drawn_pictures.classes_of(model, drawn.names())
    c.add(ASKED, right.astype(float), within=SHARE, unit="share of pictures")
    maps = _maps(model, drawn, named)
    areas, rng = maps[SALIENT], np.random.default_rng([seed, 1])
    moved = [pixel_relevance.moved_at_random(areas, rng) for _ in range(draws)]
    for name, found in maps.items():
        c.add(_iou(name), best_iou(found, own), within=SHARE, unit=OVERLAP)
    c.draws[MOVED] = [best_iou(found, own) for found in moved]
    lies = locate(areas, own, others)
    c.add(OWN, lies.lift, unit=WEIGHT)
    c.add(OTHER, lies.other_lift, unit=WEIGHT)

    def lost(found: np.ndarray) -> np.ndarray:
        area = pixel_relevance.strongest(found, own.sum((1, 2)))
        return said[np.arange(n), named] - _without(model, drawn, area)[np.arange(n), named]

    without = {name: lost(found) for name, found in maps.items()}
    c.add(LOST, without[SALIENT], within=CHANGE, unit=PROBABILITY)
    c.add(LOST_MOVED, np.mean([lost(found) for found in moved[:COVERINGS]], axis=0), within=CHANGE,
          unit=PROBABILITY)  # fmt: skip
    c.tables["Maps of relevance on pictures"] = [
        {"map": name, "overlap with object and frame": c.mean(_iou(name))}
        | {"with the object alone": float(best_iou(found, masks(drawn, frame=False)[0]).mean())}
        | {
            "on object and frame": float(np.mean(mass_inside(found, own))),
            "lost if covered": float(without[name].mean()),
        }
        for name, found in maps.items()
    ]
    shown = np.stack([own[0].astype(float), *(found[0] / found[0].max() for found in maps.values())])
    caption = "What a picture's class is read from: mask and maps of the first picture"
    labels = ["mask", *(SHORT.get(name, name) for name in maps)]
    c.pictures[caption] = HeadMaps.of(shown[None], ["first picture"], labels, title=caption)


def masks(drawn: DrawnPictures, *, frame: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of the framed object, with its frame or without, and those of every other object."""
    owner = owner_map(drawn.layout, drawn.world)
    slots = np.stack([owner == slot for slot in range(N_CELLS)], axis=1)
    if frame:
        slots[:, 0] |= frame_map(drawn.layout)
    cells = pixel_relevance.in_cells(slots.astype(float), SIDE) > 0
    return cells[:, 0], cells[:, 1:]


def _maps(model: Any, drawn: DrawnPictures, named: np.ndarray) -> dict[str, np.ndarray]:
    """Every map in cells: relevance by each rule, and areas that stand out of two of them."""
    maps = {
        name: pixel_relevance.in_cells(
            pixel_relevance.pixel_relevance(model, drawn.prompt, named, backward=rule), SIDE
        )
        for name, rule in RULES.items()
    }
    for name, of in ((SALIENT, RAW), (SALIENT_PLAIN, PLAIN)):
        maps[name] = np.stack([salient.salient_relevance(one, scales=SCALES, k=K) for one in maps[of]])
    return maps


def _without(model: Any, drawn: DrawnPictures, area: np.ndarray) -> np.ndarray:
    """Probabilities once an area of each picture has the picture's median colour."""
    pairs = zip(drawn.pixels, area, strict=True)
    pictures = [Picture.of(crops.covered(pixels, ~hidden)) for pixels, hidden in pairs]
    return prune_metrics.predictions(
        model, drawn_pictures.prompt_of(model, drawn.sight, pictures)
    ).probabilities


def _iou(name: str) -> str:
    return f"overlap of {name}"


ABLE = [answers(ASKED, RIGHT)]
SAME = "the same pictures, paired; each map at the threshold that suits it best"


def _better(over: str, says: str, where: str) -> Claim:
    return Claim(says, above(_iou(SALIENT), _iou(over)), why=SAME, where=where, needs=ABLE, model=MODEL)


def picture_claims(where: str) -> dict[str, Claim]:
    """Return the claims about pictures.

    Args:
        where: The paper whose sentences they are.
    """
    return {
        "regions": Claim(
            "salient relevance shows the regions of an image that a network attends to",
            above(OWN, OTHER),
            why="any map may prefer objects to background: the other objects of the picture are the control",
            where=where, needs=ABLE, model=MODEL,
        ),
        "regions at random": Claim(
            "salient areas lie on what decides better than the same areas at random places",
            beats_draws(_iou(SALIENT), MOVED),
            why="form and size of the areas stay, only where they lie is drawn",
            where="a control of ours", needs=ABLE, model=MODEL,
        ),
        "regions, raw": _better(RAW, "salient areas cover what decides better than the raw relevance map", where),
        "regions, AttnLRP": _better(
            ATTN, "salient areas cover what decides better than the map of AttnLRP", "an extension of ours",
        ),
        "regions, gradients": _better(
            PLAIN, "salient areas cover what decides better than plain gradients", "an extension of ours"
        ),
        "regions, first step": _better(
            SALIENT_PLAIN,
            "salient areas of relevance cover what decides better than those of plain gradients",
            "an extension of ours",
        ),
        "regions, covered": Claim(
            "what salient areas cover decides: without it more of the class is lost than without as much elsewhere",
            above(LOST, LOST_MOVED),
            why="as many cells as object and frame have; they get the picture's median colour",
            where="an extension of ours", needs=ABLE, model=MODEL,
        ),
    }  # fmt: skip
