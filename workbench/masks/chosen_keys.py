"""Masks that depend on content: the keys that weigh most by themselves, and the regions that fit a query's best.

A query always keeps itself, or its own region, where a model is causal, and what it chooses depends on nothing ahead.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.masks.positions import grid

Vectors = Float[Tensor, "row head pos d_head"]
Allowed = Bool[Tensor, "query key"]
Chosen = Bool[Tensor, "row head query key"]


def top_keys(importance: Float[Tensor, "row head key"], own: Allowed, width: int) -> Chosen:
    """Choose for every query the ``width`` visible keys of most importance, which no query has a say in.

    With no more than ``width`` visible keys a query keeps all: nothing is masked.

    Args:
        importance: Of each key; of equal ones the later is kept.

    Source:
        Shi et al. 2025 (dynamic mask attention).

    Example:
        >>> from workbench.masks.sequences import causal
        >>> top_keys(torch.tensor([[[3.0, 1.0, 2.0]]]), causal(3), 2)[0, 0].int().tolist()
        [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    if width < 1:
        raise OptionError(f"a budget of {width} keys; at least 1 is needed", hint="width=8")
    n = own.shape[-1]
    scores = importance[..., None, :].expand(*importance.shape[:-1], n, n).masked_fill(~own, -torch.inf)
    order = scores.flip(-1).argsort(dim=-1, descending=True, stable=True)
    chosen = n - 1 - order[..., : min(width, n)]
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)
    return kept & own


def routed_regions(
    q: Vectors, k: Vectors, region: Int[Tensor, " pos"], keep: int
) -> Bool[Tensor, "row head region region"]:
    """Choose for every region the ``keep`` regions whose mean key fits its mean query best. Not causal.

    Source:
        Zhu et al. 2023 (BiFormer).
    """
    regions = int(region.max()) + 1
    if not 1 <= keep <= regions:
        raise OptionError(f"{keep} regions of {regions} are to be kept", hint=f"keep=1 to keep={regions}")
    member = torch.nn.functional.one_hot(region, regions).to(q)  # (pos, region)
    member = member / member.sum(0)
    mean_q, mean_k = (torch.einsum("bhpd,pr->bhrd", one, member) for one in (q, k))
    best = (mean_q @ mean_k.mT).topk(keep, dim=-1).indices
    return torch.zeros(*best.shape[:-1], regions, dtype=torch.bool, device=q.device).scatter(-1, best, True)


def of_regions(kept: Bool[Tensor, "row head region region"], region: Int[Tensor, " pos"]) -> Chosen:
    """Return the mask of tokens that a mask of their regions means."""
    return kept[..., region, :][..., region]


def regions_of_grid(n: int, side: int, *, rows: int = 0, before: int = 0) -> Int[Tensor, " pos"]:
    """Return the region of each token of a grid of ``side`` times ``side`` regions; -1 before the grid.

    Raises:
        ShapeError: if the grid does not divide so.

    Example:
        >>> regions_of_grid(16, 2).tolist()
        [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    """
    placed = grid(n, rows, before)
    if placed.rows % side or placed.columns % side:
        raise ShapeError(
            f"a grid of {placed.rows} rows and {placed.columns} columns has no {side} times {side} regions",
            hint="a side that divides both",
        )
    high, wide = placed.rows // side, placed.columns // side
    region = placed.row.clamp(min=0) // high * side + placed.column.clamp(min=0) // wide
    return region.masked_fill(placed.row < 0, -1)


def routed_behind(q: Vectors, k: Vectors, own: Allowed, region: Int[Tensor, " pos"], keep: int) -> Chosen:
    """Choose for each query its own block, and of the blocks behind it those whose mean key fits it best.

    Args:
        region: Block of each token, in order.
        keep: Blocks of each query, its own among them; fewer where there are not so many.

    Returns:
        True where a query may look; what it chooses depends on nothing ahead of it.
    """
    if keep < 1:
        raise OptionError(f"{keep} blocks are to be kept; at least 1 is needed", hint="keep=2")
    regions = int(region.max()) + 1
    member = torch.nn.functional.one_hot(region, regions).to(q)
    mean_k = torch.einsum("bhpd,pr->bhrd", k, member / member.sum(0))
    at = torch.arange(regions, device=q.device)
    fits = (q @ mean_k.mT).masked_fill(at >= region[:, None], -torch.inf)  # (row, head, query, region)
    fits = fits.masked_fill(at == region[:, None], torch.inf)
    kept = torch.zeros_like(fits, dtype=torch.bool).scatter(
        -1, fits.topk(min(keep, regions), -1).indices, True
    )
    return kept[..., region] & own
