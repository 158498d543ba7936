"""Clusters: pairs that may have come out alike together and count once, such as several wordings of one fact.

Pairs that were drawn one by one are clusters of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.core.errors import ShapeError

Clusters = Sequence[object] | np.ndarray  # a name per pair, equal for pairs that are not independent


def cluster_index(clusters: Clusters | None, n: int) -> np.ndarray:
    """Return ``(n,)`` whole numbers from 0: the cluster of every pair; without any, every pair is one.

    Raises:
        ShapeError: if there is not one for each pair.
    """
    if clusters is None or len(clusters) == 0:
        return np.arange(n)
    if len(clusters) != n:
        raise ShapeError(f"{len(clusters)} clusters are named for {n} pairs")
    number: dict[object, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in clusters], dtype=int)


def cluster_sums(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return ``(..., cluster)`` sums of ``(..., pair)`` values."""
    sums = np.zeros((*values.shape[:-1], int(index.max()) + 1 if len(index) else 0))
    np.add.at(np.moveaxis(sums, -1, 0), index, np.moveaxis(values, -1, 0))
    return sums


def resampled_means(rows: np.ndarray, clusters: Clusters | None, *, draws: int, seed: int) -> np.ndarray:
    """Return ``(draw, row)`` means of ``(row, pair)`` values over clusters that are drawn with replacement."""
    index = cluster_index(clusters, rows.shape[1])
    size = int(index.max()) + 1
    drawn = np.random.default_rng(seed).integers(0, size, (draws, size))
    counts = np.stack([np.bincount(one, minlength=size) for one in drawn]).astype(float)
    return (counts @ cluster_sums(rows, index).T) / (counts @ np.bincount(index, minlength=size))[:, None]
