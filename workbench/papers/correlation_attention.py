"""Correlation attention: patches of a frozen CLIP look at those that are like them, and keep to their place.

In the picture tower the pattern of every head of some layers is made from queries, keys or values alone. Then a phrase
such as *large red star* is compared with every patch. The variant (which of the three, in how many of the last layers)
is chosen on other pictures than those reported, by the mass on the named object. Only the abstract of the paper was
read; its prompts for what is damaged are no words of this model. Here an anomaly is one object of another colour than
all others, and what is normal is named: *large red disc*.

Controls:
- the tower as it is
- the same variant with the patterns of another picture
- the other objects of the picture, never the background
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.association import auroc
from workbench.core.stats.intervals import SHARE
from workbench.heads.localisation import Localisation, locate
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import draw_many, noise_of, owner_map, paint
from workbench.tasks.scenes.truth import things_of
from workbench.tasks.scenes.words import COLOURS, N_CELLS
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import correlation_attention, image_text

FIRST_SEED = 36_000_000  # pictures of this paper: no other seed of pictures is near
VARIANTS = tuple((of, last) for of in ("qq", "kk", "vv") for last in (1, 2, 99))  # 99: all layers
AS_IS, LIKE, OTHERS_PATTERNS = "as it is", "correlation attention", "patterns of another picture"


@dataclass(frozen=True, kw_only=True)
class CorrelationSizes:
    """Sizes: pictures on which the variant is chosen, others that are reported, pictures with an odd object."""

    choosing: int = 150
    pictures: int = 300
    odd: int = 200

    def __post_init__(self) -> None:
        if min(self.choosing, self.pictures, self.odd) < 2:
            raise OptionError("two pictures of a kind are the least that has an interval")


def measure(setting: Setting) -> Conditions:
    """Compare phrases with patches as the tower is and with correlation attention.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.
    """
    o: CorrelationSizes = setting.options
    image_text.require_clip(setting.model)
    seed, n = FIRST_SEED + setting.seed, o.choosing + o.pictures
    world = World(objects=(0, 1, 1, 1), alike=0.0)
    pixels, layout = draw_many(seed, range(n), world)
    c = Conditions(within=SHARE, seed=setting.seed)
    own = _objects(setting.model, layout, world)
    first, kept = slice(0, o.choosing), slice(o.choosing, n)
    rows: list[dict[str, Any]] = []
    for i, variant in enumerate((None, *VARIANTS)):
        setting.progress(i, 1 + len(VARIANTS), "variants")
        maps = _maps(setting.model, pixels[first], _named(layout, 0, o.choosing), variant)
        found = _located(setting.model, maps, own[first])
        rows.append(
            {"correlated": variant[0] if variant else "nothing", "last layers": variant[1] if variant else 0}
            | {"mass": float(found.mass.mean()), "mass on another": float(found.other_mass.mean())}
            | {
                "told from others": float(
                    _told(maps, own[first, 0], np.asarray(own[first, 1:].any(1))).mean()
                )
            }
        )
    c.tables["Variants, on the pictures for choosing (99: all layers)"] = rows
    best = VARIANTS[int(np.argmax([row["mass"] for row in rows[1:]]))]
    c.numbers |= {"chosen": best[0], "last layers": best[1]}
    shown = {}
    for name, variant, shift in ((AS_IS, None, 0), (LIKE, best, 0), (OTHERS_PATTERNS, best, 1)):
        maps = _maps(setting.model, pixels[kept], _named(layout, o.choosing, n), variant, shift=shift)
        shown[name], found = maps, _located(setting.model, maps, own[kept])
        c.add(f"mass, {name}", found.mass, within=SHARE, unit="share of the map on the named object")
        c.add(
            f"mass on another, {name}",
            found.other_mass,
            within=SHARE,
            unit="share of the map on another object",
        )
        told = _told(maps, own[kept, 0], np.asarray(own[kept, 1:].any(1)))
        c.add(f"told, {name}", told, within=SHARE, unit="AUROC of patches, named object against the others")
    c.numbers["similarity of the ground"] = float(shown[AS_IS][~own[kept].any(1)].mean())
    c.numbers["similarity of the object"] = float(shown[AS_IS][own[kept, 0]].mean())
    _odd(c, setting, best)
    caption = "Similarity of every patch with the name of one object, on the first picture"
    c.pictures[caption] = HeadMaps.of(
        np.stack([maps[0] - maps[0].min() for maps in shown.values()])[None],
        ["above the least"],
        list(shown),
        pixels=pixels[o.choosing],
        title=caption,
    )
    return c


def _objects(model: Any, layout: SceneLayout, world: World) -> np.ndarray:
    """The patches on which each object has a pixel: (picture, thing, row, column)."""
    owner, (rows, columns) = owner_map(layout, world), image_text.grid_of(model)
    blocks = owner.reshape(len(owner), rows, owner.shape[1] // rows, columns, owner.shape[2] // columns)
    return np.stack([(blocks == slot).any((2, 4)) for slot in range(N_CELLS)], axis=1)


def _named(layout: SceneLayout, start: int, stop: int, slot: int = 0) -> list[str]:
    """Size, colour and shape of one object of each picture."""
    return [next(t.phrase for t in things_of(layout, i) if t.slot == slot) for i in range(start, stop)]


def _maps(model: Any, pixels: np.ndarray, phrases: list[str], variant: Any, *, shift: int = 0) -> np.ndarray:
    """Similarity of the patches of each picture with its phrase."""
    with _varied(model, variant, shift):
        patches = image_text.patch_vectors(model, pixels)
    return image_text.similarity_maps(
        patches, image_text.phrase_vectors(model, phrases), image_text.grid_of(model)
    )


@contextmanager
def _varied(model: Any, variant: Any, shift: int) -> Iterator[None]:
    """Inside, the picture tower has this variant."""
    layers = range(model.cfg.n_layers)[-variant[1] :] if variant else ()
    with (
        correlation_attention.correlation_attention(model, variant[0], list(layers), shift=shift)
        if variant
        else nullcontext()
    ):
        yield


def _located(model: Any, maps: np.ndarray, objects: np.ndarray) -> Localisation:
    """Where the maps lie, sharpened by the model's own temperature."""
    scale = float(image_text.require_clip(model).logit_scale.exp())
    return locate(image_text.softened(maps, scale), objects[:, 0], objects[:, 1:])


def _told(maps: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each picture how well similarity tells patches of one object from those of the others."""
    pairs = zip(maps, own, own | others, strict=True)
    return np.array([auroc(one[there], mine[there]) for one, mine, there in pairs])


def _odd(c: Conditions, setting: Setting, best: tuple[str, int]) -> None:
    """Pictures of four objects that are alike but for the colour of one; what is unlike the named rest is odd."""
    o: CorrelationSizes = setting.options
    world, seed = World(objects=(0, 0, 0, 1), alike=1.0, rings=0.0), FIRST_SEED + 500_000 + setting.seed
    _, layout = draw_many(seed, range(o.odd), world)
    colour = layout.colour.copy()
    colour[:, 0] = (colour[:, 0] + 1 + np.arange(o.odd) % (len(COLOURS) - 1)) % len(COLOURS)
    layout = replace(layout, colour=colour)
    pixels, own = paint(layout, noise_of(seed, range(o.odd)), world), _objects(setting.model, layout, world)
    for name, variant, shift in ((AS_IS, None, 0), (LIKE, best, 0), (OTHERS_PATTERNS, best, 1)):
        maps = _maps(setting.model, pixels, _named(layout, 0, o.odd, slot=1), variant, shift=shift)
        found = _told(-maps, own[:, 0], np.asarray(own[:, 1:].any(1)))
        c.add(f"odd, {name}", found, within=SHARE, unit="AUROC of patches, odd object against the others")


READS = needs(
    at_least(f"told, {AS_IS}", 0.5),
    f"similarity tells the named object from others with an AUROC of {{told, {AS_IS}:.2f}}; 0.5 is asked for",
)
CHOSEN = "; {chosen} in the last {last layers} layers"
RECONSTRUCTED = "abstract, reconstructed"
CLAIMS = {
    "moves": Claim(
        "which patch looks at which decides what patches say",
        above(f"told, {LIKE}", f"told, {OTHERS_PATTERNS}"),
        "the named object is told from the others better than with the patterns of another picture: paired difference "
        "above 0, interval included",
        why="patterns of another picture are as sharp and as many, and belong to nothing here",
        where="a control of ours",
        found=f"{{told, {LIKE}:.3f}}{CHOSEN}",
    ),
    "localises": Claim(
        "correlation attention keeps patches to their place: a phrase is found where its object is",
        above(f"mass, {LIKE}", f"mass, {AS_IS}"),
        "more of the similarity map (softmax at the model's temperature) lies on the named object than with the tower "
        "as it is: paired difference above 0, interval included",
        why="the variant is chosen on other pictures, and may be the best of nine",
        where=RECONSTRUCTED,
        needs=[READS],
        found=f"{{shown of mass, {LIKE}}}{CHOSEN}",
        control=f"{{mass, {AS_IS}:.3f}}; there the cosine of ground and phrase is {{similarity of the ground:.2f}}, of "
        "object and phrase {similarity of the object:.2f}",
    ),
    "told": Claim(
        "the named object is told from the other objects better",
        above(f"told, {LIKE}", f"told, {AS_IS}"),
        why="mass also falls where the ground is alike; between objects the ground has no say",
        where="an extension of ours",
        needs=[READS],
    ),
    "odd": Claim(
        "an odd object is found without training",
        above(f"odd, {LIKE}", by=0.5),
        "among the patches of objects those of the odd one are less like the phrase that names the others: AUROC above "
        "0.5, interval included",
        why="0.5 is what any score has that does not know which object is odd; the ground is not among the patches",
        where=f"{RECONSTRUCTED}; on drawn objects, an extension of ours",
    ),
    "odd better": Claim(
        "and better than with the tower as it is",
        above(f"odd, {LIKE}", f"odd, {AS_IS}"),
        why="what correlation adds, on the same pictures",
        where=f"{RECONSTRUCTED}; on drawn objects, an extension of ours",
    ),
    "benchmarks": untried(
        "zero-shot anomaly detection in photographs of industry and medicine improves",
        "AUROC on the benchmarks of the paper",
        "photographs and a CLIP that knows the word damaged cannot be had here",
        where=RECONSTRUCTED,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="correlation-attention",
        title="Crane: Context-Guided Prompt Learning and Attention Refinement for Zero-Shot Anomaly Detection",
        source="Crane 2025",
        model="zoo:clip",
        options=CorrelationSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
