"""What every head of a tower does on drawn pictures: how far patches look, and on which object the class token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.core.stats.association import slope
from workbench.core.stats.matched import layer_of
from workbench.heads.grid_maps import ClassShares, between_patches, class_shares, over_grid
from workbench.heads.hops import HopProfile, hop_profile, mean_hop
from workbench.heads.localisation import Localisation, locate

if TYPE_CHECKING:
    from workbench.heads.drawn_pictures import DrawnPictures


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadOnPictures:
    """One head, one value (or profile) per picture.

    Attributes:
        rings: Strength and mass of attention between patches by distance.
        distance: Mean distance that patches look, in hops.
        shares: What the class token gives and gets; None in a tower without one.
        located: Where the class token looks, on the object that is asked about and on the others; None without one.
        within: The same for the patches of that object: mean of what they give to their own object, and to others.
    """

    rings: HopProfile
    distance: Float[np.ndarray, " picture"]
    shares: ClassShares | None
    located: Localisation | None
    within: Localisation

    def row(self) -> dict[str, float]:
        """Return means over the pictures, as a row of a table."""
        found = {"mean distance, hops": float(np.nanmean(self.distance))}
        if self.shares is not None and self.located is not None:
            found["class token to itself"] = float(np.mean(self.shares.to_itself))
            found["lift on the asked object"] = float(np.nanmean(self.located.lift))
            found["lift on the other objects"] = float(np.nanmean(self.located.other_lift))
        return found


def _from_object(
    A: Float[np.ndarray, "picture query key"], shown: DrawnPictures
) -> Float[np.ndarray, "picture row column"]:
    """What the patches of the asked object give to every patch, mean over them."""
    own = shown.own.reshape(len(A), -1).astype(float)
    rows = np.einsum("nq,nqk->nk", own, between_patches(A, first=shown.sight.first)) / own.sum(
        1, keepdims=True
    )
    return rows.reshape(len(A), *shown.grid)


def tower_profile(
    patterns: Mapping[str, Float[np.ndarray, "picture query key"]], shown: DrawnPictures
) -> dict[str, HeadOnPictures]:
    """Measure every head on these pictures.

    Args:
        patterns: The pattern of each head on them, by address (``Seen.by_head``).

    Raises:
        ShapeError: if a picture has no other object to compare with.
    """
    first, grid, found = shown.sight.first, shown.grid, {}
    for head, A in patterns.items():
        rings = hop_profile(between_patches(A, first=first), grid)
        rows = over_grid(A[:, 0], grid, first=first) if first else None
        found[head] = HeadOnPictures(
            rings=rings,
            distance=np.asarray(mean_hop(rings)),
            shares=class_shares(A, first=first) if first else None,
            located=None if rows is None else locate(rows, shown.own, shown.others),
            within=locate(_from_object(A, shown), shown.own, shown.others),
        )
    return found


def mean_distances(profile: Mapping[str, HeadOnPictures]) -> dict[str, float]:
    """Return how far the patches look in every head, mean over the pictures.

    Returns:
        Hops by head, at least 0.
    """
    return {head: float(each.distance.mean()) for head, each in profile.items()}


def steepness(layers: Sequence[float] | np.ndarray, distances: Sequence[float]) -> float:
    """Say how steeply the distance that heads look goes with their layers, up or down, in hops per layer.

    Example:
        >>> steepness([0, 1, 2], [4.0, 3.0, 2.0])
        1.0
    """
    return abs(slope(np.array(layers, dtype=float), np.array(distances)))


def distance_slopes(profile: Mapping[str, HeadOnPictures]) -> Float[np.ndarray, " picture"]:
    """Fit a line to how far heads look over their layers, picture by picture.

    Returns:
        Hops per layer; above 0: later layers look farther.

    Source:
        Li et al. 2023, How Does Attention Work in Vision Transformers?
    """
    layers = np.array([layer_of(head) for head in profile], dtype=float)
    far = np.stack([each.distance for each in profile.values()], axis=1)  # (picture, head)
    return np.array([slope(layers, of_picture) for of_picture in far])
