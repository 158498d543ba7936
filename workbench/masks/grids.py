"""Masks of tokens on a grid, such as patches of a picture: neighborhoods, axes, windows, halos. None is causal.

Tokens that stand before the grid, such as a class token, see everything and are seen by all. A grid is square unless
``rows`` says how many rows it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.masks.registry import mask

with lazily():
    from workbench.masks import positions

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    Allowed = Bool[Tensor, "query key"]


@mask("grid-neighborhood")
def grid_neighborhood(n: int, width: int, *, rows: int = 0, before: int = 0) -> Allowed:
    """Exactly ``width`` times ``width`` keys around each query, shifted inwards at the borders.

    Source:
        Hassani, Hwu and Shi 2024 (neighborhood attention).

    Example:
        >>> sorted(set(grid_neighborhood(36, 3).sum(-1).tolist()))
        [9]
    """
    placed = positions.grid(n, rows, before)
    if width > min(placed.rows, placed.columns):
        raise OptionError(
            f"width is {width}; the grid has {placed.rows} rows and {placed.columns} columns",
            hint="take a smaller width",
        )
    near = positions.around(placed.row, placed.rows, width)
    near &= positions.around(placed.column, placed.columns, width)
    return _with_those_before(near, placed)


@mask("axial")
def axial(n: int, *, rows: int = 0, before: int = 0) -> Allowed:
    """The keys of the query's row and of its column."""
    placed = positions.grid(n, rows, before)
    same = (placed.row[:, None] == placed.row) | (placed.column[:, None] == placed.column)
    return _with_those_before(same, placed)


@mask("grid-dilated")
def grid_dilated(n: int, step: int, *, rows: int = 0, before: int = 0) -> Allowed:
    """The keys whose row and column lie whole steps from the query's: a coarse grid through each token."""
    placed = positions.grid(n, rows, before)
    same = (placed.row % step)[:, None] == placed.row % step
    same &= (placed.column % step)[:, None] == placed.column % step
    return _with_those_before(same, placed)


@mask("grid-blocks")
def grid_blocks(n: int, block: int, *, halo: int = 0, rows: int = 0, before: int = 0) -> Allowed:
    """A query sees its ``block`` times ``block`` tokens, and a halo around them; all queries of a block see the same.

    Inside the picture that is ``(block + 2 halo)**2`` keys, in a corner ``(block + halo)**2``.

    Source:
        Vaswani et al. 2021 (HaloNet).

    Example:
        >>> seen = grid_blocks(144, 3, halo=2).sum(-1)
        >>> int(seen[0]), int(seen[12 * 4 + 4])
        (25, 49)
    """
    placed = positions.grid(n, rows, before)
    near = positions.everything(n)
    for place in (placed.row, placed.column):
        start = (place // block * block)[:, None]
        near &= (place >= start - halo) & (place < start + block + halo)
    return _with_those_before(near, placed)


def _with_those_before(near: Allowed, placed: positions.Grid) -> Allowed:
    """Those before the grid see everything and are seen by all."""
    near[: placed.before], near[:, : placed.before] = True, True
    return near
