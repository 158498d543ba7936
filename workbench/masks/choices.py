"""Masks by content, by name: what each chooses from queries, keys and values. No torch until one is made.

A query always keeps its own block where a model is causal, and what it chooses depends on nothing ahead of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core.loading import lazily
from workbench.masks.registry import content_mask

with lazily():
    from workbench.masks import chosen_keys, positions, refusals

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    Vectors = Float[Tensor, "row head pos d_head"]
    Allowed = Bool[Tensor, "query key"]
    Chosen = Bool[Tensor, "row head query key"]


@content_mask("dynamic")
def dynamic(q: Vectors, k: Vectors, v: Vectors, own: Allowed, width: int) -> Chosen:
    """The ``width`` visible keys with the highest score for the query of their own token.

    In training the importance of a key is learned from its value (Shi et al. 2025); on a model that was trained
    without, the key's own score stands for it.
    """
    return chosen_keys.top_keys((q * k).sum(-1), own, width)


@content_mask("values")
def largest_values(q: Vectors, k: Vectors, v: Vectors, own: Allowed, width: int) -> Chosen:
    """The ``width`` visible keys with the longest values."""
    return chosen_keys.top_keys(v.norm(dim=-1), own, width)


@content_mask("routed")
def routed(q: Vectors, k: Vectors, v: Vectors, own: Allowed, block: int, keep: int = 2) -> Chosen:
    """Blocks of ``block`` neighbouring tokens whose mean key fits best, ``keep`` of them for every query.

    In a causal model each query chooses among the blocks behind its own, which it always sees; in others all queries
    of a block see the same blocks (Zhu et al. 2023).
    """
    region = positions.at(own.shape[-1]).to(q.device) // block
    if not refusals.leaks_of(own):
        return chosen_keys.routed_behind(q, k, own, region, keep)
    return chosen_keys.of_regions(chosen_keys.routed_regions(q, k, region, keep), region) & own


@content_mask("grid-routed")
def grid_routed(
    q: Vectors, k: Vectors, v: Vectors, own: Allowed, side: int, keep: int = 2, rows: int = 0, before: int = 0
) -> Chosen:
    """Regions of a grid, ``side`` times ``side`` of them, whose mean key fits a region's mean query best.

    Tokens before the grid see everything and are seen by all. Not causal.
    """
    region = chosen_keys.regions_of_grid(own.shape[-1], side, rows=rows, before=before).to(q.device)
    inner = slice(before, None)
    kept = chosen_keys.routed_regions(q[:, :, inner], k[:, :, inner], region[inner], keep)
    chosen = positions.everything(len(region)).to(q.device).repeat(*q.shape[:2], 1, 1)
    chosen[:, :, inner, inner] = chosen_keys.of_regions(kept, region[inner])
    return chosen & own
