"""Correlation attention: patches of a frozen CLIP look at those that are like them, and keep to their place.

In the picture tower the pattern of every head of some layers is made from queries, keys or values alone (*qq*, *kk*,
*vv*). Then a phrase such as *large red star* is compared with every patch. The variant (which of the three, in how many
of the last layers) is chosen on other pictures than those reported, by the mass on the named object. Only the abstract
of the paper was read; its prompts for what is damaged are no words of this model. Here an anomaly is one object of
another colour than all others, and what is normal is named: *large red disc*.

Controls:
- the tower as it is
- the same variant with the patterns of another picture
- the other objects of the picture, never the background
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import image_text, named_objects

FIRST_SEED = 36_000_000  # pictures of this paper: no other seed of pictures is near
VARIANTS = tuple((of, last) for of in ("qq", "kk", "vv") for last in (1, 2, 99))  # 99: all layers
AS_IS, LIKE, OTHERS_PATTERNS = "as it is", "correlation attention", "patterns of another picture"


@dataclass(frozen=True, kw_only=True)
class CorrelationSizes(Sizes):
    """Pictures that are drawn."""

    choosing: int = size(150, "on which the variant is chosen", least=2)
    pictures: int = size(300, "others that are reported", least=2)
    odd: int = size(200, "with an odd object", least=2)


def measure(setting: Setting) -> Conditions:
    """Compare phrases with patches as the tower is and with correlation attention.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + setting.seed
    image_text.require_clip(model)
    c = Conditions(within=SHARE, seed=setting.seed)
    drawn = named_objects.draw_named(model, n=o.choosing + o.pictures, seed=seed)
    first, kept = drawn[: o.choosing], drawn[o.choosing :]
    rows: list[dict[str, Any]] = []
    for i, variant in enumerate((None, *VARIANTS)):
        setting.progress(i, 1 + len(VARIANTS), "variants")
        maps = first.maps(variant)
        found, (of, last) = first.located(maps), variant or ("nothing", 0)
        rows.append({"correlated": of, "last layers": last, "mass": float(found.mass.mean())})
        rows[-1] |= {"mass on another": float(found.other_mass.mean())}
        rows[-1] |= {"told from others": float(first.told(maps).mean())}
    c.tables["Variants, on the pictures for choosing (99: all layers)"] = rows
    best = VARIANTS[int(np.argmax([row["mass"] for row in rows[1:]]))]
    c.numbers |= {"chosen": best[0], "last layers": best[1]}
    odd, shown = named_objects.draw_odd(model, n=o.odd, seed=seed + 500_000), {}
    for name, variant, shift in ((AS_IS, None, 0), (LIKE, best, 0), (OTHERS_PATTERNS, best, 1)):
        shown[name] = kept.maps(variant, shift=shift)
        found, told = kept.located(shown[name]), kept.told(shown[name])
        c.add(f"mass, {name}", found.mass, within=SHARE, unit="share of the map on the named object")
        unit = "share of the map on another object"
        c.add(f"mass on another, {name}", found.other_mass, within=SHARE, unit=unit)
        c.add(f"told, {name}", told, within=SHARE, unit="AUROC of patches, named object against the others")
        unlike = odd.told(-odd.maps(variant, shift=shift))
        c.add(f"odd, {name}", unlike, within=SHARE, unit="AUROC of patches, odd object against the others")
    c.numbers["similarity of the ground"] = float(shown[AS_IS][~kept.objects.any(1)].mean())
    c.numbers["similarity of the object"] = float(shown[AS_IS][kept.own].mean())
    caption = "Similarity of every patch with the name of one object, on the first picture"
    values = np.stack([maps[0] - maps[0].min() for maps in shown.values()])[None]
    c.pictures[caption] = HeadMaps.of(
        values, ["above the least"], list(shown), pixels=kept.pixels[0], title=caption
    )
    return c


READS = needs(
    at_least(f"told, {AS_IS}", 0.5),
    f"similarity tells the named object from others with an AUROC of {{told, {AS_IS}:.2f}}; 0.5 is asked for",
)
CHOSEN = "; {chosen} in the last {last layers} layers"
CLAIMS = {
    "moves": Control(
        "which patch looks at which decides what patches say",
        above(f"told, {LIKE}", f"told, {OTHERS_PATTERNS}"),
        "the named object is told from the others better than with the patterns of another picture: paired difference "
        "above 0, interval included",
        why="patterns of another picture are as sharp and as many, and belong to nothing here",
        found=f"{{told, {LIKE}:.3f}}{CHOSEN}",
    ),
    "localises": Reconstructed(
        "correlation attention keeps patches to their place: a phrase is found where its object is",
        above(f"mass, {LIKE}", f"mass, {AS_IS}"),
        "more of the similarity map (softmax at the model's temperature) lies on the named object than with the tower "
        "as it is: paired difference above 0, interval included",
        why="the variant is chosen on other pictures, and may be the best of nine",
        needs=[READS],
        found=f"{{shown of mass, {LIKE}}}{CHOSEN}",
        control=f"{{mass, {AS_IS}:.3f}}; there the cosine of ground and phrase is {{similarity of the ground:.2f}}, of "
        "object and phrase {similarity of the object:.2f}",
    ),
    "told": Extension(
        "the named object is told from the other objects better",
        above(f"told, {LIKE}", f"told, {AS_IS}"),
        why="mass also falls where the ground is alike; between objects the ground has no say",
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
        "an odd object is found better than with the tower as it is",
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
}
REPLICATION = add_paper(
    Paper(
        name="correlation-attention",
        source="Crane 2025",
        model="zoo:clip",
        options=CorrelationSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
