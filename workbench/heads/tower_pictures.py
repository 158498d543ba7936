"""Pictures of a tower's heads: how far they look, where class tokens look, exemplars of families of patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.stats.matched import layer_of
from workbench.heads.grid_maps import over_grid
from workbench.heads.pattern_space import PatternSpace, resized
from workbench.heads.tower_profile import HeadOnPictures
from workbench.view.pictures import Curves, HeadMaps

if TYPE_CHECKING:
    from workbench.heads.drawn_pictures import DrawnPictures

RINGS = "Attention of a patch to one patch so many hops away, mean of a layer"
CLASS_TOKEN = "Where the class token of every head looks"
FAMILIES = "Exemplars of every family: head, and what is lost without it"
EXEMPLARS = 5  # of each family that are drawn


def ring_curves(profile: Mapping[str, HeadOnPictures], *, title: str = RINGS) -> Curves:
    """Draw the attention of a patch to one patch so many hops away, a line for each layer: the mean of its heads."""
    layers = sorted({layer_of(head) for head in profile})
    rings = {
        f"layer {n}": enumerate(
            np.mean([own.rings.strength.mean(0) for head, own in profile.items() if layer_of(head) == n], 0)
        )
        for n in layers
    }
    return Curves.of(rings, x_label="hops", y_label="attention to one patch", title=title)


def class_token_maps(
    seen: Mapping[str, np.ndarray], shown: DrawnPictures, *, title: str = CLASS_TOKEN
) -> HeadMaps:
    """Draw where the class token of every head looks on the first picture.

    Args:
        seen: The patterns of every head, ``(picture, query, key)``.
    """
    rows = {head: over_grid(A[0, 0], shown.grid, first=shown.sight.first) for head, A in seen.items()}
    return HeadMaps.of_heads(rows, pixels=shown.pixels[0], title=title)


def family_exemplars(
    patterns: Mapping[str, np.ndarray],
    space: PatternSpace,
    loss: Mapping[str, float],
    *,
    title: str = FAMILIES,
) -> HeadMaps:
    """Draw exemplars of every family that has enough, with the head of each and what is lost without it.

    Args:
        patterns: Between patches, of every head: as many of each.
        space: Of all patterns, head by head.
        loss: One number for each head, by address.
    """
    heads, every = list(patterns), np.concatenate(list(patterns.values()))
    n = len(every) // len(heads)
    exemplars = [family[:EXEMPLARS] for family in space.exemplars if len(family) >= EXEMPLARS]
    return HeadMaps.of(
        np.array([[resized(every[k], 18) for k in family] for family in exemplars]),
        [f"family {i}" for i in range(len(exemplars))],
        [str(i + 1) for i in range(EXEMPLARS)],
        under=[[f"{heads[k // n]} {loss[heads[k // n]]:.3f}" for k in family] for family in exemplars],
        title=title,
    )
