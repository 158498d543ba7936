"""Permutation tests: signs of paired differences turned round, labels dealt anew. One-sided p values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations
from math import factorial, prod

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.stats.binomial import at_least
from workbench.core.stats.dependent_pairs import Clusters, cluster_index, cluster_sums
from workbench.core.stats.sign_flips import EXACT

LABELS = 7  # items up to which all orders of labels are gone through: 5,040
TIE = 1e-9  # of a difference of two shares: float32 means in another order
_TIE = 1e-12  # sums in another order


def p_above(value: float, null: np.ndarray) -> float:
    """Return the share of draws of chance that are at least as large, the value itself counted as one of them.

    NaN where the value or a draw is not finite: it is neither above nor below anything.

    Example:
        >>> p_above(2.0, np.array([0.0, 1.0, 2.0]))
        0.5
    """
    if not (np.isfinite(value) and np.isfinite(null).all()):
        return float("nan")
    return float((1 + (np.asarray(null) >= value - _TIE).sum()) / (1 + len(null)))


def sign_flip_p(
    differences: np.ndarray,
    clusters: Clusters | None = None,
    *,
    draws: int = 5000,
    seed: int | Sequence[int] = 0,
) -> float:
    """Return the probability of a mean at least as large if each cluster's differences could as well have the other
    sign.

    Up to 13 clusters every choice of signs is gone through; beyond that ``draws`` of them are drawn.

    Returns:
        A one-sided p: small where the mean is clearly above 0; NaN where a difference is not finite.

    Source:
        Fisher 1935, The Design of Experiments, section 21.

    Example:
        >>> sign_flip_p(np.array([1.0, 2.0, 3.0]))  # one of eight choices of signs
        0.125
    """
    values = np.asarray(differences, dtype=float)
    if not np.isfinite(values).all():
        return float("nan")
    sums = cluster_sums(values, cluster_index(clusters, len(values)))
    n = len(sums)
    if n <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(((signs @ sums) >= sums.sum() - _TIE * max(1, len(values))).mean())
    turns = np.random.default_rng(seed).integers(0, 2, (draws, n)) * 2 - 1
    return p_above(float(sums.sum() / len(values)), (turns * sums).sum(1) / len(values))


def sign_test_p(differences: np.ndarray) -> float:
    """Return the probability of as many differences above zero if each that is not zero could as well be below;
    exact.

    NaN where a difference is.

    Source:
        Dixon and Mood 1946, J. Am. Stat. Assoc. 41.

    Example:
        >>> round(sign_test_p(np.array([1.0, 2.0, 0.0, 1.0])), 9)
        0.125
    """
    if np.isnan(differences).any():
        return float("nan")
    up, down = int((differences > TIE).sum()), int((differences < -TIE).sum())
    return at_least(up, up + down, 0.5) if up + down else 1.0


def permutation_p(
    statistic: Callable[[np.ndarray], float],
    labels: Sequence[object] | np.ndarray,
    *,
    draws: int = 4000,
    seed: int | Sequence[int] = 0,
) -> float:
    """Return the probability of a statistic at least as large when the labels are dealt to the items at random.

    Up to seven items every order of the labels is gone through; beyond that ``draws`` of them are drawn.

    Args:
        statistic: A number from one label per item.

    Returns:
        A one-sided p: small where the statistic is larger than labels at random make it; NaN where the statistic of
        an order of the labels is not finite.
    """
    own = np.asarray(labels)
    seen = statistic(own)
    if len(own) <= LABELS:
        found = np.array([statistic(own[list(order)]) for order in permutations(range(len(own)))])
        return float((found >= seen - _TIE).mean()) if np.isfinite(found).all() else float("nan")
    rng = np.random.default_rng(seed)
    return p_above(seen, np.array([statistic(rng.permutation(own)) for _ in range(draws)]))


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw an order in which no item keeps its place, each such order with the same chance.

    Returns:
        For each item the number of another one; every number stands once.

    Raises:
        OptionError: for fewer than two items.

    Example:
        >>> derangement(2, np.random.default_rng(0)).tolist()
        [1, 0]
    """
    if n < 2:
        raise OptionError(f"{n} items cannot change places", hint="give at least two items")
    while True:  # more than a third of all orders, 1 / e, are such
        order = rng.permutation(n)
        if (order != np.arange(n)).all():
            return order


def orders(labels: Sequence[object]) -> int:
    """Count the orders of labels that differ; 1 over it is the smallest p there can be.

    Example:
        >>> orders("abc"), orders("aabb")
        (6, 6)
    """
    return factorial(len(labels)) // prod(factorial(size) for size in Counter(labels).values())


def groupings(labels: Sequence[object]) -> int:
    """Count the ways of putting as many items into groups of these sizes; 1 over it is the smallest p there can be.

    Example:
        >>> groupings("aabbccc"), groupings("aaabbbccc")
        (105, 280)
    """
    sizes = Counter(labels).values()
    alike = prod(factorial(size) for size in sizes) * prod(factorial(n) for n in Counter(sizes).values())
    return factorial(len(labels)) // alike


def within_and_between(pairs: np.ndarray, groups: Sequence[object] | np.ndarray) -> tuple[float, float]:
    """Return the mean of a measure of two items over all pairs of one group, and over all pairs of different
    groups.

    Args:
        pairs: ``(item, item)``; an item with itself does not count.

    Returns:
        Both means; NaN where there are no such pairs.

    Example:
        >>> within_and_between(np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]]), "aab")
        (2.0, 4.25)
    """
    pairs, own = np.asarray(pairs, dtype=float), np.asarray(list(groups))
    alike, self = own[:, None] == own[None], np.eye(len(own), dtype=bool)
    within, between = pairs[alike & ~self], pairs[~alike]
    within_mean, between_mean = (float(x.mean()) if len(x) else float("nan") for x in (within, between))
    return within_mean, between_mean
