"""Two forms of attention beside each other: how far apart they are, and how their time grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.masks.choices import grid_routed
from workbench.masks.counted_work import counted_work
from workbench.masks.gathers import (
    gathered_attention,
    grid_neighborhood_keys,
    masked_attention,
    neighborhood_keys,
)
from workbench.masks.grids import grid_blocks, grid_neighborhood
from workbench.masks.region_gathers import halo_attention, routed_attention
from workbench.masks.sequences import every_key, neighborhood

HEADS, D_HEAD, TRIES = 2, 32, 5


def random_vectors(n: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return random queries, keys and values ``(1, head, pos, d_head)``."""
    drawn = torch.randn(3, 1, HEADS, n, D_HEAD, generator=torch.Generator().manual_seed(seed))
    return drawn[0], drawn[1], drawn[2]


def forms_apart(side: int, widths: Sequence[int], *, seed: int = 0) -> dict[str, float]:
    """Return how far gathered neighborhoods are from what they must equal, in the unit of values.

    Args:
        side: Of a grid; the row has ``side**2`` tokens.
        widths: Of neighborhoods in a row and on the grid, at most ``side``.

    Returns:
        The largest difference from the mask in a row and on the grid, from the values with one key, and from full
        attention with all keys; 0 is equality.

    Example:
        >>> found = forms_apart(4, [1, 3])
        >>> found["one key"], max(found.values()) < 1e-5
        (0.0, True)
    """
    n = side * side
    q, k, v = random_vectors(n, seed=seed)

    def apart(keys: Tensor, other: Tensor) -> float:
        return float((gathered_attention(q, k, v, keys) - other).abs().max())

    masked = {
        "in a row": max(
            apart(neighborhood_keys(n, w), masked_attention(q, k, v, neighborhood(n, w))) for w in widths
        ),
        "on a grid": max(
            apart(grid_neighborhood_keys(side, side, w), masked_attention(q, k, v, grid_neighborhood(n, w)))
            for w in widths
        ),
    }
    full = masked_attention(q, k, v, every_key(n))
    return {
        **masked,
        "one key": apart(neighborhood_keys(n, 1), v),
        "all keys": apart(neighborhood_keys(n, n), full),
    }


def routed_forms(grid: int, side: int, keeps: Sequence[int], *, seed: int = 0) -> dict[str, float]:
    """Return how far routed attention over gathered regions is from what it must equal, in the unit of values.

    Args:
        grid: Patches on each side of a picture; ``side`` regions on each.
        keeps: Numbers of regions that are kept, all regions among them.

    Returns:
        The largest difference from the mask, and from full attention where all regions are kept; and the share of
        queries whose mask has exactly ``keep * n / side**2`` keys.

    Example:
        >>> found = routed_forms(4, 2, [1, 4])
        >>> found["queries with exactly their keys"], found["all regions and plain"] < 1e-5
        (1.0, True)
    """
    n = grid * grid
    q, k, v = random_vectors(n, seed=seed)
    own, apart, right = every_key(n), [], []
    for keep in keeps:
        allowed = grid_routed(q, k, v, own, side, keep)
        right.append(allowed.sum(-1) == keep * n // side**2)
        apart.append(
            float((routed_attention(q, k, v, side, keep) - masked_attention(q, k, v, allowed)).abs().max())
        )
    whole = routed_attention(q, k, v, side, side * side) - masked_attention(q, k, v, own)
    return {
        "gathered and masked": max(apart),
        "all regions and plain": float(whole.abs().max()),
        "queries with exactly their keys": float(torch.stack(right).double().mean()),
    }


def halo_forms(grid: int, block: int, halos: Sequence[int], *, seed: int = 0) -> dict[str, float]:
    """Return how far attention over blocks with a halo is from its mask, and how often keys are counted as said.

    Returns:
        The largest difference, in the unit of values; the share of blocks inside the picture with
        ``(block + 2 halo)**2`` keys, and of corners with ``(block + halo)**2``.

    Example:
        >>> halo_forms(12, 3, [0, 1, 2])["inner blocks and corners as said"]
        1.0
    """
    n, apart, right = grid * grid, [], []
    q, k, v = random_vectors(n, seed=seed)
    for halo in halos:
        allowed = grid_blocks(n, block, halo=halo)
        found = halo_attention(q, k, v, block, halo)
        apart.append(float((found - masked_attention(q, k, v, allowed)).abs().max()))
        keys = allowed.sum(-1).view(grid, grid)
        right += [int(keys[y, x]) == (block + halo) ** 2 for y in (0, -1) for x in (0, -1)]
        first, end = -(-halo // block) * block, (grid - halo) // block * block
        right.append(bool((keys[first:end, first:end] == (block + 2 * halo) ** 2).all()))
    return {"gathered and masked": max(apart), "inner blocks and corners as said": float(np.mean(right))}


def work_by_length(lengths: Sequence[int], width: int) -> list[dict[str, float]]:
    """Return the counted work of full and of gathered attention at each length: it is the same in every run.

    Returns:
        For each length ``tokens``, and of ``all keys`` and ``gathered`` the multiply-adds and the numbers written.

    Example:
        >>> few, more = work_by_length([64, 128], 8)
        >>> [more[f"{name}, multiply-adds"] / few[f"{name}, multiply-adds"] for name in ("gathered", "all keys")]
        [2.0, 4.0]
    """
    rows = []
    for n in lengths:
        row: dict[str, float] = {"tokens": n}
        for name, run in _forms(n, width).items():
            work = counted_work(run)
            row |= {f"{name}, multiply-adds": work.multiply_adds, f"{name}, written": work.written}
        rows.append(row)
    return rows


def _forms(n: int, width: int) -> Mapping[str, Callable[[], Tensor]]:
    """Full attention of random vectors, and that over a neighborhood's listed keys."""
    q, k, v = random_vectors(n, seed=n)
    keys = neighborhood_keys(n, width)
    return {"all keys": partial(_full, q, k, v), "gathered": partial(gathered_attention, q, k, v, keys)}


def seconds_by_length(lengths: Sequence[int], width: int) -> list[dict[str, float]]:
    """Return the processor's seconds of full and of gathered attention at each length, the least of several tries."""
    rows = []
    for n in lengths:
        rows.append({"tokens": n, **{name: _fastest(run) for name, run in _forms(n, width).items()}})
    return rows


def power_of_length(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """Return the power of the length with which seconds or work grow: 1 is linear, 2 quadratic."""
    return float(
        np.polyfit(np.log([row["tokens"] for row in rows]), np.log([row[name] for row in rows]), 1)[0]
    )


def _full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / D_HEAD**0.5).softmax(-1) @ v


def _fastest(run: Callable[[], Tensor]) -> float:
    taken = []
    for _ in range(TRIES):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return max(min(taken), 1e-7)
