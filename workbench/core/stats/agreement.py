"""How far two lists of numbers agree: linear and rank correlation, and the overlap of what they choose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.errors import ShapeError

if TYPE_CHECKING:  # only annotations: it takes a tenth of the time that a saved circuit takes to be shown
    from jaxtyping import Float


def average_ranks(
    values: Float[np.ndarray, " item"], weights: Float[np.ndarray, " item"] | None = None
) -> Float[np.ndarray, " item"]:
    """Return ranks from 1 (smallest); equal values share the mean of the ranks they take.

    All are NaN where a value is: it has no place among the others.

    Args:
        weights: How many items each one stands for, itself included; ranks are then those among all of them.

    Example:
        >>> average_ranks(np.array([5.0, 1.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
        >>> average_ranks(np.array([5.0, 1.0]), np.array([2.0, 1.0])).tolist()
        [2.5, 1.0]
    """
    if np.isnan(values).any():
        return np.full(np.shape(values), np.nan)
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    counts = counts if weights is None else np.bincount(group, weights)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def pearson(
    here: Float[np.ndarray, " item"],
    there: Float[np.ndarray, " item"],
    weights: Float[np.ndarray, " item"] | None = None,
) -> float:
    """Linear correlation, -1 to 1; NaN where one side does not vary.

    Args:
        weights: How many items each one stands for; all the same by default.

    Raises:
        ShapeError: if the two differ in length.
    """
    if here.shape != there.shape:
        raise ShapeError(
            f"{here.shape} values cannot be correlated with {there.shape}",
            hint="give both as many values, item by item",
        )
    if weights is not None:
        return _weighted_pearson(here, there, weights)
    a, b = (np.asarray(x, dtype=float) - np.mean(x) for x in (here, there))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else float("nan")


def _weighted_pearson(here: np.ndarray, there: np.ndarray, weights: np.ndarray) -> float:
    share = weights / weights.sum()
    a, b = (np.asarray(x, dtype=float) - share @ np.asarray(x, dtype=float) for x in (here, there))
    size = np.sqrt((share @ a**2) * (share @ b**2))
    # 1e-12: what rounding leaves of values that are all the same
    flat = any(np.abs(d[share > 0]).max() <= 1e-12 * np.abs(x).max() for d, x in ((a, here), (b, there)))
    return float(share @ (a * b) / size) if size > 0 and not flat else float("nan")


def spearman(
    here: Float[np.ndarray, " item"],
    there: Float[np.ndarray, " item"],
    weights: Float[np.ndarray, " item"] | None = None,
) -> float:
    """Return the correlation of the ranks, ties sharing theirs; NaN where one side does not vary or holds a NaN.

    Args:
        weights: How many items each one stands for; all the same by default.
    """
    return pearson(average_ranks(here, weights), average_ranks(there, weights), weights)


def jaccard(here: Collection, there: Collection) -> float:
    """Shared over union of two sets; NaN when both are empty."""
    union = set(here) | set(there)
    return len(set(here) & set(there)) / len(union) if union else float("nan")


def mean_jaccard(sets: Sequence[Collection]) -> float:
    """Return the mean over every two of the sets; NaN for fewer than two, and where two are empty."""
    found = [jaccard(a, b) for a, b in combinations(sets, 2)]
    return float(np.mean(found)) if found else float("nan")


def chance_jaccard(a: float, b: float, n: int) -> float:
    """Jaccard of random sets of sizes ``a`` and ``b`` out of ``n``, by expectations; NaN when both are empty.

    ``s / (a + b - s)`` with the expected intersection ``s = a b / n`` (hypergeometric); for equal sizes that is
    ``a / (2 n - a)``.
    """
    if not a + b or not n:
        return float("nan")
    shared = a * b / n
    return shared / (a + b - shared)
