"""Pixels and masks of many pictures at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.tasks.scenes.layout import NUMBERS_DRAWN, SceneLayout, World, generator, lay_out
from workbench.tasks.scenes.shapes import FRAME, RING, arrow_masks, templates
from workbench.tasks.scenes.words import CELL, GRID, N_CELLS, PALETTE, PATCH, SIDE

N_NOISE = SIDE * SIDE * 3
ARROW = N_CELLS + 1
_GREYS = np.array([0.82, 0.22], dtype=np.float32)


def draw_many(seed: int, indices: Sequence[int], world: World) -> tuple[np.ndarray, SceneLayout]:
    """Draw the pictures of these numbers; each is the same alone and among others.

    Returns:
        Pixels (picture, 48, 48, 3) as uint8, and the `SceneLayout` they show.
    """
    numbers = np.empty((len(indices), NUMBERS_DRAWN))
    noise = np.empty((len(indices), N_NOISE), dtype=np.float32)
    for row, index in enumerate(indices):
        random = generator(seed, int(index))
        random.random(out=numbers[row])
        random.standard_normal(out=noise[row], dtype=np.float32)
    layout = lay_out(numbers, world)
    return paint(layout, noise, world), layout


def lay_out_many(seed: int, indices: Sequence[int], world: World) -> SceneLayout:
    """Return what stands where in the pictures of these numbers, without drawing them."""
    return lay_out(np.stack([generator(seed, int(i)).random(NUMBERS_DRAWN) for i in indices]), world)


def noise_of(seed: int, indices: Sequence[int]) -> np.ndarray:
    """Return the noise of the pictures of these numbers (picture, 48 * 48 * 3), standard normal."""
    noise = np.empty((len(indices), N_NOISE), dtype=np.float32)
    for row, index in enumerate(indices):
        random = generator(seed, int(index))
        random.random(NUMBERS_DRAWN)
        random.standard_normal(out=noise[row], dtype=np.float32)
    return noise


def paint(layout: SceneLayout, noise: np.ndarray, world: World) -> np.ndarray:
    """Paint pictures: ground, waves, rings, objects, frame, then noise.

    Args:
        noise: Standard normal numbers (picture, 48 * 48 * 3).

    Returns:
        Pixels (picture, 48, 48, 3) as uint8.
    """
    ground = _ground(layout, world)  # (picture, 48, 48, 3), cut into cells below
    cells = ground.reshape(-1, GRID, CELL, GRID, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(len(layout), N_CELLS, CELL, CELL, 3)
    inks = _inks(layout, world)
    there = (np.arange(N_CELLS)[None] < layout.n[:, None]) | layout.ring
    picture, slot = there.nonzero()
    kind = np.where(layout.ring, RING, layout.shape)[picture, slot]
    where = (layout.size[picture, slot], layout.down[picture, slot], layout.right[picture, slot])
    masks = templates()[(kind, *where)].astype(bool)  # (object, 16, 16)
    cell = layout.cell[picture, slot]
    cells[picture, cell] = np.where(
        masks[..., None], inks[picture, slot][:, None, None], cells[picture, cell]
    )
    _put_arrows(cells, layout, np.float32(1.0))
    if world.marked:
        frame = templates()[FRAME, 0, 0, 0].astype(bool)
        marked = np.arange(len(layout)), marked_cell(layout)
        cells[marked] = np.where(frame[..., None], np.float32(1.0), cells[marked])
    whole = whole_picture(cells)
    if world.zoom:
        whole = through_window(whole, layout)
    painted = noise.reshape(whole.shape) * np.float32(world.noise)
    painted += whole
    np.clip(painted, 0, 1, out=painted)
    painted *= 255
    painted += 0.5
    return painted.astype(np.uint8)


def whole_picture(cells: np.ndarray) -> np.ndarray:
    """Return cells (picture, 9, 16, 16, ...) put together to pictures (picture, 48, 48, ...)."""
    rest = cells.shape[4:]
    grid = cells.reshape(len(cells), GRID, GRID, CELL, CELL, *rest)
    return np.ascontiguousarray(grid.swapaxes(2, 3)).reshape(len(cells), SIDE, SIDE, *rest)


def owner_map(layout: SceneLayout, world: World) -> np.ndarray:
    """Say which slot every pixel belongs to (picture, 48, 48): 9 is a ring, 10 an arrow, -1 the ground."""
    cells = np.full((len(layout), N_CELLS, CELL, CELL), -1, dtype=np.int8)
    there = (np.arange(N_CELLS)[None] < layout.n[:, None]) | layout.ring
    picture, slot = there.nonzero()
    ring = layout.ring[picture, slot]
    kind = np.where(ring, RING, layout.shape[picture, slot])
    where = (layout.size[picture, slot], layout.down[picture, slot], layout.right[picture, slot])
    masks = templates()[(kind, *where)].astype(bool)
    owner = np.where(ring, N_CELLS, slot).astype(np.int8)
    cells[picture, layout.cell[picture, slot]] = np.where(masks, owner[:, None, None], np.int8(-1))
    _put_arrows(cells, layout, np.int8(ARROW))
    whole = whole_picture(cells)
    return through_window(whole, layout) if world.zoom else whole


def frame_map(layout: SceneLayout) -> np.ndarray:
    """Say which pixels are of the white frame (picture, 48, 48), where the world draws one."""
    cells = np.zeros((len(layout), N_CELLS, CELL, CELL), dtype=bool)
    cells[np.arange(len(layout)), marked_cell(layout)] = templates()[FRAME, 0, 0, 0].astype(bool)
    return whole_picture(cells)


def coverage(owner: np.ndarray) -> np.ndarray:
    """Return the share of every patch that every slot covers: (picture, 36, 9), rows of patches from the top."""
    side = SIDE // PATCH
    patches = owner.reshape(-1, side, PATCH, side, PATCH).swapaxes(2, 3).reshape(len(owner), side * side, -1)
    return np.stack([(patches == slot).mean(-1, dtype=np.float32) for slot in range(N_CELLS)], axis=-1)


def through_window(whole: np.ndarray, layout: SceneLayout) -> np.ndarray:
    """Return the window around the first object, every pixel of it twice as large."""
    picture = np.arange(len(whole))[:, None, None]
    top, left = window(layout)
    steps = np.arange(SIDE) // 2
    return whole[picture, (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None, :]]


def _put_arrows(cells: np.ndarray, layout: SceneLayout, value: np.generic) -> None:
    """Write a value where arrows are; cells are (picture, 9, 16, 16, ...)."""
    for picture in np.flatnonzero(layout.arrow >= 0):
        cell, direction = divmod(int(layout.arrow[picture]), 4)
        cells[picture, cell][arrow_masks()[direction]] = value


def marked_cell(layout: SceneLayout) -> np.ndarray:
    """Return the cell of the object that is marked (picture,)."""
    return layout.cell[np.arange(len(layout)), layout.mark]


def window(layout: SceneLayout) -> tuple[np.ndarray, np.ndarray]:
    """Return the top and left pixel of the window of 24 x 24 that holds the first object's cell."""
    row, column = np.divmod(marked_cell(layout).astype(int), GRID)
    slack = SIDE // 2 - CELL

    def edge(cell: np.ndarray, number: np.ndarray) -> np.ndarray:
        least = (cell * CELL - slack).clip(0, SIDE // 2)
        most = (cell * CELL).clip(0, SIDE // 2)
        return least + (number * (most - least + 1)).astype(int).clip(max=most - least)

    return edge(row, layout.rest[:, 6]), edge(column, layout.rest[:, 7])


def _ground(layout: SceneLayout, world: World) -> np.ndarray:
    """Tinted grey with waves in one direction (picture, 48, 48, 3)."""
    rest = layout.rest
    tone = 0.42 + 0.2 * rest[:, :1] + 0.06 * (rest[:, 1:4] - 0.5)
    angle, phase = 2 * np.pi * rest[:, 4], 2 * np.pi * rest[:, 5]
    along = np.arange(SIDE, dtype=np.float32) * (2 * np.pi * 5 / SIDE)
    waves = np.sin(
        np.cos(angle)[:, None, None] * along[None, :, None]
        + np.sin(angle)[:, None, None] * along[None, None, :]
        + phase[:, None, None],
        dtype=np.float32,
    )
    return tone[:, None, None, :].astype(np.float32) + np.float32(world.texture) * waves[..., None]


def _inks(layout: SceneLayout, world: World) -> np.ndarray:
    """Colour of every slot (picture, 9, 3)."""
    inks = (PALETTE @ hue_turn(world.hue).T)[layout.colour] * layout.bright[..., None]
    greys = _GREYS[(layout.bright > 1).astype(int)][..., None]
    return np.where(layout.ring[..., None], greys, inks).astype(np.float32)


def hue_turn(degrees: float) -> np.ndarray:
    """Return the rotation (3, 3) of colours about the grey axis."""
    angle, third = np.deg2rad(degrees), 1 / 3
    cos, sin = np.cos(angle), np.sin(angle) / np.sqrt(3)
    same, on, back = cos + (1 - cos) * third, (1 - cos) * third - sin, (1 - cos) * third + sin
    return np.array([[same, on, back], [back, same, on], [on, back, same]], dtype=np.float32)
