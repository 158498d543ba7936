"""The binomial distribution, exactly: tail probabilities, and the interval of a share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from math import exp, lgamma, log

import numpy as np

from workbench.core.errors import OptionError


def binomial(n: int, share: float) -> np.ndarray:
    """Return ``(n + 1,)`` probabilities of 0 to n successes."""
    if not 0 < share < 1:
        raise OptionError(
            f"a probability of {share:g} leaves nothing to test",
            hint="share=0.5: a number above 0 and below 1",
        )
    yes, no = log(share), log(1 - share)
    return np.array([exp(ways + k * yes + (n - k) * no) for k, ways in enumerate(_log_ways(n))])


@lru_cache(maxsize=8)
def _log_ways(n: int) -> tuple[float, ...]:
    """Logarithms of the numbers of ways to choose 0 to n of n: an interval asks for the same ones a hundred times."""
    return tuple(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in range(n + 1))


def at_most(count: int, n: int, share: float) -> float:
    """Return the probability of ``count`` or fewer successes: small when the true share is likely below ``share``."""
    return min(1.0, float(binomial(n, share)[: count + 1].sum()))


def at_least(count: int, n: int, share: float) -> float:
    """Return the probability of ``count`` or more successes: small when the true share is likely above ``share``."""
    return min(1.0, float(binomial(n, share)[count:].sum()))


def share_interval(count: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share: what true shares would not be rejected by ``count`` of ``n``.

    Source:
        Clopper and Pearson 1934, Biometrika 26.

    Example:
        >>> [round(x, 4) for x in share_interval(6, 6)]
        [0.5407, 1.0]
    """
    if not 0 <= count <= n or n < 1:
        raise OptionError(
            f"count is {count}, n {n}; expected a count from 0 to n, and n at least 1",
            hint="share_interval(3, 10)",
        )
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else _root(lambda share: at_least(count, n, share) - tail)
    high = 1.0 if count == n else _root(lambda share: tail - at_most(count, n, share))
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of a share crosses zero, by halving."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def hypergeometric_tail(shared: int, universe: int, first: int, second: int) -> float:
    """Return the chance that random sets of ``first`` and ``second`` of ``universe`` items share at least
    ``shared``.

    ``sum over k >= shared of C(first, k) C(universe - first, second - k) / C(universe, second)``, in
    logarithms, so that 32,491 edges neither overflow nor need big integers.
    """
    most = min(first, second)
    least = max(0, first + second - universe)
    if shared <= least:
        return 1.0
    log = [
        _log_choose(first, k) + _log_choose(universe - first, second - k) - _log_choose(universe, second)
        for k in range(shared, most + 1)
    ]
    if not log:
        return 0.0
    top = max(log)
    return min(1.0, math.exp(top) * math.fsum(math.exp(x - top) for x in log))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
