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
        raise ShapeError(
            f"{len(clusters)} clusters are named for {n} pairs",
            hint="name one cluster for each pair, in the order of the pairs",
        )
    number: dict[object, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in clusters], dtype=int)


def grouped(clusters: Clusters | None) -> bool:
    """Say whether some pairs are not independent.

    Example:
        >>> grouped([0, 0, 1]), grouped([0, 1, 2]), grouped(())
        (True, False, False)
    """
    return clusters is not None and len(set(clusters)) < len(clusters)


def pairs_said(n: int, independent: int) -> str:
    """Say how many pairs there are, and in how many independent groups where not all are independent.

    Example:
        >>> pairs_said(4, 4), pairs_said(4, 2)
        ('n 4', 'n 4 in 2 independent groups')
    """
    return f"n {n} in {independent} independent groups" if independent < n else f"n {n}"


def independent_of(clusters: Clusters | None) -> dict[str, int]:
    """Return the field of a row that says how many groups are independent; none where every pair is.

    Example:
        >>> independent_of([0, 0, 1]), independent_of([0, 1, 2])
        ({'clusters': 2}, {})
    """
    return {"clusters": len(set(clusters))} if clusters is not None and grouped(clusters) else {}


def cluster_means(values: np.ndarray, clusters: Clusters | None) -> np.ndarray:
    """Return ``(..., cluster)`` means of ``(..., pair)`` values; as they are where every pair is independent."""
    if not grouped(clusters):
        return values
    index = cluster_index(clusters, values.shape[-1])
    return cluster_sums(values, index) / np.bincount(index)


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
