"""Where tokens stand: in a row, or on a grid behind a few that stand before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.core.errors import ShapeError


def at(n: int) -> Int[Tensor, " pos"]:
    """Return the positions 0 to ``n - 1``."""
    return torch.arange(n)


def distance(n: int) -> Int[Tensor, "query key"]:
    """Return how far each key lies behind each query; keys ahead are negative."""
    return at(n)[:, None] - at(n)


def everything(n: int) -> Bool[Tensor, "query key"]:
    """Return true for every query and key."""
    return torch.ones(n, n, dtype=torch.bool)


def among(values: Int[Tensor, "*shape"], known: Sequence[int]) -> Bool[Tensor, "*shape"]:
    """Say which values are among those known."""
    return torch.isin(values, torch.tensor(sorted({int(one) for one in known}), dtype=torch.long))


class Grid(NamedTuple):
    """Row and column of each token on a grid; tokens before it have -1."""

    row: Int[Tensor, " pos"]
    column: Int[Tensor, " pos"]
    rows: int
    columns: int
    before: int


def grid(n: int, rows: int = 0, before: int = 0) -> Grid:
    """Return where ``n`` tokens stand: ``before`` of them alone, the others row by row.

    Args:
        rows: Of the grid; 0 is a square.
        before: Tokens that stand before it, such as a class token.

    Raises:
        ShapeError: if the others are no whole grid.

    Example:
        >>> placed = grid(7, rows=2, before=1)
        >>> placed.row.tolist(), placed.column.tolist()
        ([-1, 0, 0, 0, 1, 1, 1], [-1, 0, 1, 2, 0, 1, 2])
    """
    cells = n - before
    found = rows or round(max(cells, 0) ** 0.5)
    if cells < 1 or found < 1 or cells % found or (not rows and found * found != cells):
        shape = f"{rows} rows" if rows else "a square"
        said = f" behind the first {before}" if before else ""
        raise ShapeError(
            f"{cells} tokens{said} are no grid of {shape}", hint="rows=2, and before=1 for a class token"
        )
    columns, index = cells // found, at(n) - before
    outside = index < 0
    row, column = index // columns, index % columns
    return Grid(row.masked_fill(outside, -1), column.masked_fill(outside, -1), found, columns, before)


def around(index: Int[Tensor, " pos"], n: int, width: int) -> Bool[Tensor, "pos pos"]:
    """Say for places on one axis of ``n`` which lie in each one's neighborhood of exactly ``width`` places."""
    start = (index - width // 2).clamp(0, n - width)[:, None]
    return (index >= start) & (index < start + width)
