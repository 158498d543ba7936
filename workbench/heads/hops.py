"""How far heads look on a grid of patches: attention by ring of distance around each patch.

Two measures that answer different questions: *strength* is what one neighbour at a distance gets, *mass* what all
neighbours at that distance get together. A head that looks everywhere alike has equal strengths, and mass where the
rings are large.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from workbench.core.errors import OptionError, ShapeError
from workbench.heads.grid_maps import Size

Metric = Literal["chebyshev", "manhattan"]


class HopProfile(NamedTuple):
    """Attention of patches by distance.

    Attributes:
        strength: Mean attention to one patch at each distance; over the patches that have one so far away.
        mass: Attention to all patches at each distance together, mean over patches; sums to what patches get at all.
    """

    strength: Float[np.ndarray, "*batch hop"]
    mass: Float[np.ndarray, "*batch hop"]


def hop_distance(grid: Size, metric: Metric = "chebyshev") -> Int[np.ndarray, "patch patch"]:
    """Count the hops between any two patches: rings are squares (Chebyshev) or diamonds (Manhattan).

    Example:
        >>> hop_distance((1, 3)).tolist()
        [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    """
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    apart = np.abs(row[:, None] - row), np.abs(column[:, None] - column)
    if metric not in ("chebyshev", "manhattan"):
        raise OptionError(f"no distance called {metric!r}", hint="chebyshev or manhattan")
    return np.maximum(*apart) if metric == "chebyshev" else apart[0] + apart[1]


def hop_profile(
    pattern: Float[np.ndarray, "*batch patch patch"], grid: Size, metric: Metric = "chebyshev"
) -> HopProfile:
    """Sum up how patches look at patches, ring by ring.

    Args:
        pattern: Attention from each patch (row) to each patch; class tokens are left out (`between_patches`).

    Returns:
        Strength and mass for distances 0, 1, ...; shares of attention.

    Raises:
        ShapeError: if the pattern is not of such a grid.

    Source:
        Li et al. 2023, How Does Attention Work in Vision Transformers? (attention strength by k-hop neighbours).

    Example:
        >>> found = hop_profile(np.full((16, 16), 1 / 16), (4, 4))  # an even head
        >>> found.strength.tolist(), round(float(found.mass[1]), 3)
        ([0.0625, 0.0625, 0.0625, 0.0625], 0.328)
    """
    pattern, n = np.asarray(pattern, dtype=float), grid[0] * grid[1]
    if pattern.shape[-2:] != (n, n):
        raise ShapeError(
            f"the pattern is {pattern.shape[-2:]}; a grid of {grid[0]} x {grid[1]} has {n} patches",
            hint="cut it to the patches: pattern[..., first:, first:], or give another grid",
        )
    apart = hop_distance(grid, metric)
    rings = apart == np.arange(apart.max() + 1)[:, None, None]  # (hop, patch, patch)
    sizes = rings.sum(-1)  # (hop, patch): how many neighbours each patch has there
    mass = np.einsum("...qk,hqk->...hq", pattern, rings.astype(float))
    strength = np.where(sizes > 0, mass / np.maximum(sizes, 1), 0.0).sum(-1) / (sizes > 0).sum(-1)
    return HopProfile(strength=strength, mass=mass.mean(-1))


def mean_hop(profile: HopProfile) -> Float[np.ndarray, "*batch"] | float:
    """Mean distance of what a patch looks at among patches, in hops: 0 for a head that looks at its own patch.

    NaN where patches get nothing.
    """
    total = profile.mass.sum(-1)
    far = profile.mass @ np.arange(profile.mass.shape[-1])
    return np.divide(far, total, out=np.full_like(total, np.nan), where=total > 0)
