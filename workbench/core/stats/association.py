"""How two lists go together: slope, area under the ROC curve, agreement of two groupings, changes of sign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import numpy as np

from workbench.core.errors import ShapeError
from workbench.core.stats.agreement import average_ranks
from workbench.core.stats.dependent_pairs import Clusters, cluster_index
from workbench.core.stats.intervals import (
    RESAMPLES,
    Interval,
    no_interval,
    resampled_interval,
    resamples,
    too_few_draws,
)


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of the least-squares line of ``y`` over ``x``; NaN where ``x`` does not vary or a value is
    not finite.

    Example:
        >>> slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
        2.0
    """
    if np.shape(x) != np.shape(y):
        raise ShapeError(
            f"{np.shape(x)} places cannot have {np.shape(y)} values", hint="give one y for each x"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    off = np.asarray(x, dtype=float) - np.mean(x)
    size = float(off @ off)
    return float(off @ (np.asarray(y, dtype=float) - np.mean(y)) / size) if size > 0 else float("nan")


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive item has a larger score than a negative one, ties half.

    NaN without one of both, and where a score is NaN.

    Source:
        Mann and Whitney 1947, Annals of Mathematical Statistics 18.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    positive = np.asarray(positive, dtype=bool)
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((average_ranks(np.asarray(scores))[positive].sum() - n * (n + 1) / 2) / (n * m))


def adjusted_rand(here: Sequence[object], there: Sequence[object]) -> float:
    """Return the agreement of two groupings of the same items: 1 for the same, 0 on average by chance.

    Source:
        Hubert and Arabie 1985, Journal of Classification 2.

    Example:
        >>> adjusted_rand("aabb", "xxyy"), round(adjusted_rand("aabb", "xyxy"), 9)
        (1.0, -0.5)
    """
    if len(here) != len(there):
        raise ShapeError(
            f"{len(here)} items are grouped here, {len(there)} there",
            hint="give each item one group here and one there",
        )

    def pairs(groups: Sequence[object]) -> int:
        return sum(comb(n, 2) for n in Counter(groups).values())

    both, a, b, every = (
        pairs(list(zip(here, there, strict=True))),
        pairs(here),
        pairs(there),
        comb(len(here), 2),
    )
    expected, most = (a * b / every if every else 0.0), (a + b) / 2
    return float((both - expected) / (most - expected)) if most != expected else 1.0


def paired_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    x: np.ndarray,
    y: np.ndarray,
    *,
    clusters: Clusters = (),
    draws: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Estimate the 95 % interval of a statistic of paired lists, by bootstrap over their items.

    Args:
        clusters: A name per item, equal for items that are not independent: these are drawn together.

    Returns:
        Ends and standard error in the statistic's unit. NaN with a reason with fewer than two items or clusters, and
        where the statistic of all items is not finite.
    """
    x, y, index = np.asarray(x), np.asarray(y), cluster_index(clusters, len(x))
    members = [np.flatnonzero(index == i) for i in range(len(set(index.tolist())))]
    if len(members) < 2:
        return no_interval(too_few_draws(len(x), index))
    value = statistic(x, y)
    if not np.isfinite(value):
        return no_interval("it is not defined for all items together")
    drawn = (
        np.concatenate([members[i] for i in one]) for one in resamples(len(members), draws=draws, seed=seed)
    )
    return resampled_interval(np.array([statistic(x[at], y[at]) for at in drawn]), value)
