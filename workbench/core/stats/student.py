"""Means over pairs that are not all independent: Student's interval, from the clusters that are."""

from __future__ import annotations

from functools import cache
from math import atan2, cos, pi, sin, sqrt

import numpy as np

from workbench.core.stats.dependent_pairs import Clusters, cluster_index, cluster_sums, grouped
from workbench.core.stats.intervals import Interval, no_interval, too_few_draws


def clustered_interval(values: np.ndarray, clusters: Clusters | None = None) -> Interval:
    """Return 95 % interval of a mean over pairs by Student's t, of the mean's cluster-robust standard error.

    ``se^2 = G / (G - 1) * sum over clusters of (sum of (x - mean))^2 / n^2``, ``G - 1`` degrees of freedom. With one
    pair in each cluster it is the usual t interval.

    Returns:
        Ends and standard error of the mean, in the unit of the values. NaN with a reason with fewer than two clusters.

    Source:
        Student 1908, Biometrika 6; Liang and Zeger 1986, Biometrika 73, for the clusters.
    """
    values = np.asarray(values, dtype=float)
    index = cluster_index(clusters, len(values))
    g = int(index.max()) + 1 if len(index) else 0
    if g < 2:
        return no_interval(too_few_draws(len(values), index))
    mean, error = values.mean(), float(_robust(values, index))
    half = student_quantile(g - 1) * error
    return Interval(float(mean - half), float(mean + half), error)


def standard_errors(rows: np.ndarray, clusters: Clusters | None = None) -> np.ndarray:
    """Return ``(...,)`` standard errors of the means of ``(..., pair)`` values, in their unit.

    ``std / sqrt(n)`` where every pair is independent; else the cluster-robust error of `clustered_interval`. NaN with
    fewer than two independent pairs.

    Example:
        >>> values = np.array([1.0, 1.0, 3.0, 3.0])
        >>> [round(float(standard_errors(values, named)), 3) for named in ((), ["a", "a", "b", "b"])]
        [0.577, 1.0]
    """
    rows = np.asarray(rows, dtype=float)
    index = cluster_index(clusters, rows.shape[-1])
    if len(np.unique(index)) < 2:
        return np.full(rows.shape[:-1], np.nan)
    if not grouped(clusters):
        return rows.std(-1, ddof=1) / np.sqrt(rows.shape[-1])
    return _robust(rows, index)


def _robust(rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    g = int(index.max()) + 1
    residual = cluster_sums(rows - rows.mean(-1, keepdims=True), index)
    return np.sqrt(g / (g - 1) * (residual**2).sum(-1)) / rows.shape[-1]


@cache
def student_quantile(df: int, level: float = 0.95) -> float:
    """Half width of the central ``level`` of Student's t with ``df`` degrees of freedom.

    Example:
        >>> [round(student_quantile(df), 3) for df in (1, 3, 63)]
        [12.706, 3.182, 1.998]
    """
    low, high = 0.0, 1.0
    while _within(high, df) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, df: int) -> float:
    """Probability of ``|T| < t``; for whole ``df`` a finite sum.

    Source:
        Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = atan2(t, sqrt(df))
    c, s = cos(angle), sin(angle)
    term = c if df % 2 else 1.0
    total = term if df > 1 else 0.0
    for k in range(3 if df % 2 else 2, df - 1, 2):
        term *= c * c * (k - 1) / k
        total += term
    return 2 / pi * (angle + s * total) if df % 2 else s * total
