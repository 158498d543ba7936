"""Cutting the part of a picture out that a map points at, and enlarging it; or covering all but a part.

Nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import OptionError, ShapeError


class Window(NamedTuple):
    """A part of a grid: its first row and column, and how many of each."""

    row: int
    column: int
    rows: int
    columns: int


def window_masks(windows: Sequence[Window], grid: tuple[int, int]) -> Bool[np.ndarray, "window row column"]:
    """Return the patches of every window.

    Example:
        >>> window_masks([Window(row=0, column=1, rows=1, columns=2)], (2, 3)).astype(int).tolist()
        [[[0, 1, 1], [0, 0, 0]]]
    """
    masks = np.zeros((len(windows), *grid), dtype=bool)
    for mask, window in zip(masks, windows, strict=True):
        mask[window.row : window.row + window.rows, window.column : window.column + window.columns] = True
    return masks


def window_sums(
    map_: Float[np.ndarray, "row column"], size: tuple[int, int]
) -> Float[np.ndarray, "place_row place_column"]:
    """Return the sum of a map inside a window of a size, for every place that the window can have.

    Example:
        >>> window_sums(np.array([[1.0, 2.0], [3.0, 4.0]]), (1, 2)).tolist()
        [[3.0], [7.0]]
    """
    rows, columns = map_.shape
    if not (1 <= size[0] <= rows and 1 <= size[1] <= columns):
        raise OptionError(
            f"a window of {size[0]} x {size[1]} does not fit a map of {rows} x {columns}",
            hint=f"give a size from (1, 1) to ({rows}, {columns})",
        )
    return np.lib.stride_tricks.sliding_window_view(map_, size).sum((-2, -1))


def best_window(map_: Float[np.ndarray, "row column"], sizes: Sequence[tuple[int, int]]) -> Window:
    """Choose a window: of each size the one with the largest sum, of all sizes the one that stands out most.

    A window stands out by how much its sum exceeds the mean of those one step beside it.

    Returns:
        The window; of equal ones the first.

    Source:
        Zhang et al. 2025, MLLMs Know Where to Look.

    Example:
        >>> best_window(np.array([[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]), [(1, 1), (3, 3)])
        Window(row=1, column=1, rows=1, columns=1)
    """
    if not sizes:
        raise OptionError("no size of a window is given", hint="sizes=[(2, 2), (3, 3)]")
    found = []
    for size in sizes:
        sums = window_sums(np.asarray(map_, dtype=float), size)
        row, column = np.unravel_index(int(sums.argmax()), sums.shape)
        beside = [
            sums[row + down, column + right]
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if (down, right) != (0, 0)
            and 0 <= row + down < sums.shape[0]
            and 0 <= column + right < sums.shape[1]
        ]
        stands_out = sums[row, column] - np.mean(beside) if beside else 0.0
        found.append((float(stands_out), Window(int(row), int(column), *size)))
    return max(found, key=lambda one: one[0])[1]


def crop_around(
    pixels: np.ndarray, map_: Float[np.ndarray, "row column"], sizes: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Cut the best window of a map out of a picture and make it as large as the picture, each pixel repeated.

    Args:
        pixels: ``(height, width, channel)``.
        map_: One number per patch.
        sizes: Of windows, in patches; each must fit the picture a whole number of times.

    Returns:
        A picture of the same size.

    Raises:
        ShapeError: if the map does not divide the picture, or a window does not.
    """
    return enlarged(pixels, best_window(map_, sizes), np.shape(map_))


def enlarged(pixels: np.ndarray, window: Window, grid: tuple[int, ...]) -> np.ndarray:
    """Return the window of a picture as large as the picture, each pixel repeated.

    Raises:
        ShapeError: if the grid does not divide the picture, or the window does not fit it a whole number of times.
    """
    height, width = pixels.shape[:2]
    if height % grid[0] or width % grid[1] or grid[0] % window.rows or grid[1] % window.columns:
        raise ShapeError(
            f"a window of {window.rows} x {window.columns} of {grid[0]} x {grid[1]} patches does not fit a picture of "
            f"{height} x {width} pixels a whole number of times",
            hint="windows whose sides divide the grid",
        )
    down, right = height // grid[0], width // grid[1]
    top, left = window.row * down, window.column * right
    part = pixels[top : top + window.rows * down, left : left + window.columns * right]
    return part.repeat(grid[0] // window.rows, axis=0).repeat(grid[1] // window.columns, axis=1)


def covered(pixels: np.ndarray, region: Bool[np.ndarray, "row column"]) -> np.ndarray:
    """Return a picture of which a region alone is left; the rest has the median colour of the whole picture.

    Args:
        pixels: ``(height, width, channel)``.
        region: Which patches stay.

    Raises:
        ShapeError: if the region's grid does not divide the picture.

    Example:
        >>> seen = covered(np.arange(4, dtype=np.uint8).reshape(2, 2, 1), np.array([[True, False], [False, False]]))
        >>> seen[..., 0].tolist()
        [[0, 1], [1, 1]]
    """
    (height, width), (rows, columns) = pixels.shape[:2], region.shape
    if height % rows or width % columns:
        raise ShapeError(
            f"{rows} x {columns} patches do not divide a picture of {height} x {width} pixels",
            hint=f"give pixels whose height is a multiple of {rows} and whose width is a multiple of {columns}",
        )
    stays = region.repeat(height // rows, axis=0).repeat(width // columns, axis=1)
    return np.where(stays[..., None], pixels, np.median(pixels, axis=(0, 1)).astype(pixels.dtype))


def elsewhere(
    regions: Bool[np.ndarray, "picture row column"], rng: np.random.Generator
) -> Bool[np.ndarray, "picture row column"]:
    """Return every region moved by a random step that is not nothing; over an edge it comes in on the other side.

    The control of a region that was chosen: as many patches of the same form, at another place.

    Example:
        >>> region = np.array([[[True, True], [False, False]]])
        >>> moved = elsewhere(region, np.random.default_rng(1))
        >>> int(moved.sum()), moved.shape
        (2, (1, 2, 2))
    """
    rows, columns = regions.shape[1:]
    steps = [divmod(int(rng.integers(1, rows * columns)), columns) for _ in regions]
    return np.stack([np.roll(region, step, (0, 1)) for region, step in zip(regions, steps, strict=True)])
