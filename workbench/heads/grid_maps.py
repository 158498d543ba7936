"""Attention over the patches of a picture: as rows and columns, and what a class token gives and gets.

The positions of a tower are its class token (and what else comes first), then the patches row by row. Numpy only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench.core.errors import ShapeError

Size = tuple[int, int]
"""Rows and columns of patches."""


class ClassShares(NamedTuple):
    """How much attention goes from a class token and to it, each a share of one row of a pattern.

    Attributes:
        to_itself: Of the class token's own row.
        to_patches: Of the class token's own row, all patches together.
        from_patches: Of a patch's row, mean over patches.
    """

    to_itself: Float[np.ndarray, "*batch"] | float
    to_patches: Float[np.ndarray, "*batch"] | float
    from_patches: Float[np.ndarray, "*batch"] | float


def owned_patches(
    owner: Int[np.ndarray, "picture height width"], grid: Size, *, n: int
) -> Bool[np.ndarray, "picture thing row column"]:
    """Return the patches on which each thing has a pixel.

    Args:
        owner: The number of the thing that each pixel is of; -1 for the ground.
        grid: Rows and columns of patches, which divide the pixels.
        n: How many things are told apart.

    Example:
        >>> owned_patches(np.array([[[0, -1, -1, 1], [-1, -1, -1, 1]]]), (1, 2), n=2).astype(int).tolist()
        [[[[1, 0]], [[0, 1]]]]
    """
    rows, columns = grid
    blocks = owner.reshape(len(owner), rows, owner.shape[1] // rows, columns, owner.shape[2] // columns)
    return np.stack([(blocks == thing).any((2, 4)) for thing in range(n)], axis=1)


def over_grid(weights: Float[np.ndarray, "*batch pos"], grid: Size, *, first: int = 1) -> np.ndarray:
    """Lay what positions have out as rows and columns of patches.

    Args:
        weights: One number for every position, such as a row of an attention pattern.
        grid: Rows and columns of patches.
        first: How many positions come before the patches.

    Returns:
        ``(*batch, row, column)``: the same numbers; those of the first positions are left out.

    Raises:
        ShapeError: if the positions are not those of such a grid.

    Example:
        >>> over_grid(np.array([0.5, 0.1, 0.2, 0.0, 0.2]), (2, 2)).tolist()
        [[0.1, 0.2], [0.0, 0.2]]
    """
    weights = np.asarray(weights)
    rows, columns = grid
    if weights.shape[-1] != first + rows * columns:
        raise ShapeError(
            f"{weights.shape[-1]} positions are not {first} and {rows} x {columns} patches",
            hint="grid=(rows, columns), first=positions before the patches",
        )
    return weights[..., first:].reshape(*weights.shape[:-1], rows, columns)


def between_patches(
    pattern: Float[np.ndarray, "*batch query key"], *, first: int = 1
) -> Float[np.ndarray, "*batch patch patch"]:
    """Return the part of a pattern in which patches look at patches; rows sum to what they do not give to the first
    tokens.
    """
    return np.asarray(pattern)[..., first:, first:]


def class_shares(pattern: Float[np.ndarray, "*batch query key"], *, first: int = 1) -> ClassShares:
    """Sum up what the class token gives and gets; it is position 0.

    Returns:
        Three shares from 0 to 1 for every head.

    Raises:
        ShapeError: if there is no class token.

    Example:
        >>> [float(share) for share in class_shares(np.full((4, 4), 0.25))]
        [0.25, 0.75, 0.25]
    """
    if first < 1:
        raise ShapeError(
            f"there is no class token: first is {first}, and at least 1 position before the patches is expected",
            hint="first=1, if the class token is the first position",
        )
    pattern = np.asarray(pattern)
    return ClassShares(
        to_itself=pattern[..., 0, 0],
        to_patches=pattern[..., 0, first:].sum(-1),
        from_patches=pattern[..., first:, 0].mean(-1),
    )


def shares(maps: Float[np.ndarray, "*batch row column"]) -> Float[np.ndarray, "*batch row column"]:
    """Divide each map by its sum; NaN where that is not above 0."""
    maps = np.asarray(maps, dtype=float)
    total = maps.sum((-2, -1), keepdims=True)
    return np.divide(maps, total, out=np.full_like(maps, np.nan), where=total > 0)


def map_entropy(maps: Float[np.ndarray, "*batch row column"]) -> Float[np.ndarray, "*batch"] | float:
    """Entropy of where a map lies, in nats: 0 on one patch, ``ln n`` even over n patches; the map is made to sum to 1.

    Source:
        Ge et al. 2025, Focusing by Contrastive Attention.

    Example:
        >>> round(float(map_entropy(np.ones((2, 2)))), 4)  # ln 4
        1.3863
    """
    share = shares(maps)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum((-2, -1)) + 0.0  # no minus zero
