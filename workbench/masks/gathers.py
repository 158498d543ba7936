"""Attention under a mask, twice: over all keys with the others closed, and over the allowed keys alone.

Both give the same. The second looks at ``width`` keys for every query, so its work grows with ``n * width`` where that
of the first grows with ``n * n``: `benchmarks.mask_speed` has the times.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.masks.refusals import check_mask

Vectors = Float[Tensor, "row head pos d_head"]
CHUNK = 1 << 22  # numbers of gathered keys at once: 16 MB in float32


def masked_attention(
    q: Vectors, k: Vectors, v: Vectors, allowed: Bool[Tensor, "*#rows query key"]
) -> Vectors:
    """Return the softmax over the allowed keys times values; scores are ``q . k / sqrt(d_head)``.

    Raises:
        OptionError: if a query has no key.
    """
    if not bool(allowed.any(-1).all()):
        raise OptionError("the mask leaves a query without any key", hint="let every token see itself")
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


def keys_of(
    allowed: Bool[Tensor, "query key"],
) -> tuple[Int[Tensor, "query width"], Bool[Tensor, "query width"]]:
    """Return the keys that each query may look at, and which of the places are filled: rows may have fewer keys.

    Example:
        >>> from workbench.masks.sequences import window
        >>> keys, filled = keys_of(window(3, 2))
        >>> keys.tolist(), filled.int().tolist()
        ([[0, 0], [0, 1], [1, 2]], [[1, 0], [1, 1], [1, 1]])
    """
    check_mask(allowed)
    width = int(allowed.sum(-1).max())
    order = (~allowed).to(torch.uint8).argsort(dim=-1, stable=True)[:, :width]
    filled = allowed.gather(-1, order)
    return order.masked_fill(~filled, 0), filled


def neighborhood_keys(n: int, width: int) -> Int[Tensor, "query width"]:
    """Return the keys of a `neighborhood`, without making its mask of ``n * n`` entries."""
    if not 1 <= width <= n:
        raise OptionError(f"width is {width}; 1 to {n} fit into {n} tokens", hint="take a smaller width")
    start = (torch.arange(n) - width // 2).clamp(0, n - width)
    return start[:, None] + torch.arange(width)


def grid_neighborhood_keys(rows: int, columns: int, width: int) -> Int[Tensor, "query width"]:
    """Return the keys of a `grid_neighborhood`, ``width**2`` for every query, without making its mask."""
    down, along = neighborhood_keys(rows, width), neighborhood_keys(columns, width)
    keys = down[:, None, :, None] * columns + along[None, :, None, :]
    return keys.reshape(rows * columns, width * width)


def gathered_attention(
    q: Vectors,
    k: Vectors,
    v: Vectors,
    keys: Int[Tensor, "query width"],
    filled: Bool[Tensor, "query width"] | None = None,
) -> Vectors:
    """Return attention over the keys that are listed for each query, and nothing computed for the others.

    Args:
        filled: Which places of the list count; by default all.

    Raises:
        ShapeError: if the list is for another number of queries.

    Example:
        >>> from workbench.masks.sequences import neighborhood
        >>> q, k, v = torch.randn(3, 1, 2, 9, 4)
        >>> found = gathered_attention(q, k, v, neighborhood_keys(9, 3))
        >>> bool(torch.allclose(found, masked_attention(q, k, v, neighborhood(9, 3)), atol=1e-6))
        True
    """
    n, width = q.shape[-2], keys.shape[-1]
    if len(keys) != n:
        raise ShapeError(f"keys are listed for {len(keys)} queries; {n} are there", hint="keys_of(mask)")
    step = max(1, CHUNK // max(1, q.shape[0] * q.shape[1] * width * q.shape[-1]))
    found = []
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        near_k, near_v = (one[:, :, keys[part]] for one in (k, v))  # (row, head, query, width, d_head)
        scores = torch.einsum("bhqd,bhqwd->bhqw", q[:, :, part], near_k) / q.shape[-1] ** 0.5
        if filled is not None:
            scores = scores.masked_fill(~filled[part], -torch.inf)
        found.append(torch.einsum("bhqw,bhqwd->bhqd", scores.softmax(-1), near_v))
    return torch.cat(found, dim=2)


def windowed_attention(q: Vectors, k: Vectors, v: Vectors, width: int) -> Vectors:
    """Return attention over the last ``width`` keys, block by block: each block of queries sees two blocks of keys.

    Raises:
        OptionError: for a window of no keys.

    Example:
        >>> from workbench.masks.sequences import window
        >>> q, k, v = torch.randn(3, 1, 2, 10, 4)
        >>> found = windowed_attention(q, k, v, 3)
        >>> bool(torch.allclose(found, masked_attention(q, k, v, window(10, 3)), atol=1e-6))
        True
    """
    if width < 1:
        raise OptionError(f"width is {width}; at least 1 is needed", hint="width=16")
    n, block = q.shape[-2], width
    back = -n % block
    queries = torch.nn.functional.pad(q, (0, 0, 0, back)).unflatten(2, (-1, block))
    near_k, near_v = (
        torch.nn.functional.pad(one, (0, 0, block, back)).unfold(2, 2 * block, block).mT for one in (k, v)
    )  # (row, head, block, key, d_head)
    query, key = torch.arange(block)[:, None], torch.arange(2 * block) - block
    near = (key <= query) & (query - key < width)
    first = torch.arange(queries.shape[2])[:, None] * block + key  # positions of the keys of each block
    allowed = near & (first >= 0)[:, None, :]
    scores = (queries @ near_k.mT) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~allowed.to(q.device), -torch.inf).softmax(-1)
    return (weights @ near_v).flatten(2, 3)[:, :, :n]
