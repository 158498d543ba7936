"""Attention over whole regions of a grid, without the keys outside them: routed regions, and blocks with a halo.

Each gives what the mask of the same name gives (`grid-routed`, `grid-blocks`), and computes no score that the mask
would close, but for the cells of a halo that lie outside the picture.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.masks.chosen_keys import regions_of_grid, routed_regions
from workbench.masks.positions import grid

Vectors = Float[Tensor, "row head pos d_head"]


def routed_attention(q: Vectors, k: Vectors, v: Vectors, side: int, keep: int, *, rows: int = 0) -> Vectors:
    """Return attention of every query to all tokens of the ``keep`` regions that its own region is routed to.

    A region is routed to those whose mean key fits its mean query best; nothing is learned through the choice. Every
    query sees exactly ``keep * n / side**2`` keys.

    Args:
        side: Regions on each side of the grid.
        rows: Of the grid of tokens; 0 is a square.

    Raises:
        ShapeError: if the grid does not divide into so many regions.
        OptionError: if more regions are to be kept than there are.

    Source:
        Zhu et al. 2023 (BiFormer).

    Example:
        >>> q, k, v = torch.randn(3, 1, 2, 16, 4)
        >>> every = (q @ k.mT / 2).softmax(-1) @ v
        >>> bool(torch.allclose(routed_attention(q, k, v, 2, 4), every, atol=1e-6))
        True
    """
    region = regions_of_grid(q.shape[-2], side, rows=rows).to(q.device)
    members = region.argsort(stable=True).view(side * side, -1)  # (region, member)
    kept = routed_regions(q, k, region, keep)  # (row, head, region, region)
    best = kept.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :keep]
    near_k, near_v = (_members_of(one, members, best) for one in (k, v))
    found = _attended(q[:, :, members], near_k, near_v)
    return _back(found, members, like=q)


def _members_of(
    one: Vectors, members: Int[Tensor, "region member"], best: Int[Tensor, "row head region keep"]
) -> Float[Tensor, "row head region key d_head"]:
    """Vectors of all tokens of the chosen regions."""
    by_region = one[:, :, members]  # (row, head, region, member, d_head)
    row, head = (torch.arange(size, device=one.device) for size in best.shape[:2])
    return by_region[row[:, None, None, None], head[None, :, None, None], best].flatten(3, 4)


def halo_attention(q: Vectors, k: Vectors, v: Vectors, block: int, halo: int, *, rows: int = 0) -> Vectors:
    """Return attention of every query to its block of ``block`` times ``block`` tokens and a halo around it.

    Inside the picture these are ``(block + 2 halo)**2`` keys, in a corner ``(block + halo)**2``.

    Args:
        rows: Of the grid of tokens; 0 is a square.

    Raises:
        ShapeError: if the grid does not divide into blocks.
        OptionError: for a block of no tokens, or a negative halo.

    Source:
        Vaswani et al. 2021 (HaloNet), without its relative positions.

    Example:
        >>> from workbench.masks.gathers import masked_attention
        >>> from workbench.masks.grids import grid_blocks
        >>> q, k, v = torch.randn(3, 1, 2, 36, 4)
        >>> plain = masked_attention(q, k, v, grid_blocks(36, 2, halo=1))
        >>> bool(torch.allclose(halo_attention(q, k, v, 2, 1), plain, atol=1e-6))
        True
    """
    members, keys, inside = halo_keys(q.shape[-2], block, halo, rows=rows)
    near_k, near_v = (one[:, :, keys.to(q.device)] for one in (k, v))
    found = _attended(q[:, :, members.to(q.device)], near_k, near_v, inside.to(q.device))
    return _back(found, members.to(q.device), like=q)


def halo_keys(
    n: int, block: int, halo: int, *, rows: int = 0
) -> tuple[Int[Tensor, "block member"], Int[Tensor, "block key"], Bool[Tensor, "block key"]]:
    """Return the tokens of each block, the keys that they share, and which of these lie inside the picture.

    Example:
        >>> members, keys, inside = halo_keys(16, 2, 1)
        >>> members[0].tolist(), inside.sum(-1).tolist()
        ([0, 1, 4, 5], [9, 9, 9, 9])
    """
    placed = grid(n, rows)
    if block < 1 or halo < 0:
        raise OptionError(f"a block of {block} and a halo of {halo}", hint="block=2, halo=1")
    if placed.rows % block or placed.columns % block:
        raise ShapeError(
            f"a grid of {placed.rows} rows and {placed.columns} columns has no blocks of {block} times {block}",
            hint="a block that divides both",
        )
    down, wide = placed.rows // block, placed.columns // block
    first = torch.stack(
        torch.meshgrid(torch.arange(down) * block, torch.arange(wide) * block, indexing="ij"), dim=-1
    ).view(-1, 2)  # (block, axis)

    def around(low: int, high: int) -> Tensor:
        steps = torch.arange(low, high)
        step = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).view(-1, 2)
        return first[:, None] + step  # (block, token, axis)

    own, near = around(0, block), around(-halo, block + halo)
    sizes = torch.tensor([placed.rows, placed.columns])
    inside = ((near >= 0) & (near < sizes)).all(-1)
    near = near.clamp(min=0).minimum(sizes - 1)
    return _flat(own, placed.columns), _flat(near, placed.columns), inside


def _flat(place: Int[Tensor, "block token axis"], columns: int) -> Int[Tensor, "block token"]:
    return place[..., 0] * columns + place[..., 1]


def _attended(
    q: Float[Tensor, "row head region member d_head"],
    k: Float[Tensor, "row head region key d_head"],
    v: Float[Tensor, "row head region key d_head"],
    inside: Bool[Tensor, "region key"] | None = None,
) -> Float[Tensor, "row head region member d_head"]:
    """Attention inside each region."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if inside is not None:
        scores = scores.masked_fill(~inside[:, None], -torch.inf)
    return scores.softmax(-1) @ v


def _back(
    found: Float[Tensor, "row head region member d_head"],
    members: Int[Tensor, "region member"],
    *,
    like: Vectors,
) -> Vectors:
    """What regions gave, each token at its place."""
    out = torch.empty_like(like)
    out[:, :, members.flatten()] = found.flatten(2, 3)
    return out
