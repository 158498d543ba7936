"""Many pictures at once in which an arrow points at the first object, and what lies in the arrow's field of view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from workbench.tasks.scenes.arrows import STEPS
from workbench.tasks.scenes.layout import SceneLayout
from workbench.tasks.scenes.shapes import DIRECTIONS
from workbench.tasks.scenes.words import GRID, N_CELLS


def point_at_first(layout: SceneLayout, *, seed: int) -> tuple[SceneLayout, Bool[np.ndarray, " picture"]]:
    """Put an arrow into a free cell of each picture, so that the first object is the nearest that it points at.

    Rings in the arrow's cell are taken away. Of all cells and directions that do, one is drawn.

    Returns:
        The layout with arrows, and which pictures have one: some have no such cell.

    Example:
        >>> from workbench.tasks.scenes.layout import World
        >>> from workbench.tasks.scenes.paint import lay_out_many
        >>> layout, able = point_at_first(lay_out_many(0, range(8), World(objects=(0, 0, 1))), seed=0)
        >>> bool((layout.arrow[able] >= 0).all())
        True
    """
    random = np.random.default_rng(seed)
    arrow, ring = layout.arrow.copy(), layout.ring.copy()
    for picture in range(len(layout)):
        ways = _ways(layout.cell[picture, : layout.n[picture]].tolist())
        number = random.random()  # drawn for every picture, so that each is the same whatever the others are
        if ways:
            arrow[picture] = ways[int(number * len(ways))]
            ring[picture] &= layout.cell[picture] != arrow[picture] // 4
    return replace(layout, arrow=arrow, ring=ring), arrow >= 0


def _ways(cells: list[int]) -> list[int]:
    """List arrows, four times the cell plus the direction, that see the first of these cells before the others."""
    found = []
    for cell in range(N_CELLS):
        if cell in cells:
            continue
        for direction in range(len(DIRECTIONS)):
            seen = [at for at in _ahead(4 * cell + direction) if at in cells]
            if seen and seen[0] == cells[0]:
                found.append(4 * cell + direction)
    return found


def _ahead(arrow: int) -> list[int]:
    """List the cells in front of an arrow, the nearest first."""
    (row, column), (down, right) = divmod(arrow // 4, GRID), STEPS[DIRECTIONS[arrow % 4]]
    places = [(row + k * down, column + k * right) for k in range(1, GRID)]
    return [r * GRID + c for r, c in places if 0 <= r < GRID and 0 <= c < GRID]


def in_view(layout: SceneLayout) -> Bool[np.ndarray, "picture 3 3"]:
    """Say which cells lie in front of each picture's arrow, whatever stands there."""
    seen = np.zeros((len(layout), N_CELLS), dtype=bool)
    for picture, arrow in enumerate(layout.arrow.tolist()):
        if arrow >= 0:
            seen[picture, _ahead(arrow)] = True
    return seen.reshape(-1, GRID, GRID)
