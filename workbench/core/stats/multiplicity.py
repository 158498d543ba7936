"""Many tests at once: which of them survive a correction, and which could survive it at all.

Family-wise corrections (Bonferroni, Holm, max-T in ``sign_flips.py``) bound the chance that any mark is wrong;
false-discovery corrections (Benjamini-Hochberg, Benjamini-Yekutieli) bound the share of marks that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil

import numpy as np

Chances = Sequence[float] | np.ndarray  # one p per test


def bonferroni(ps: Chances) -> np.ndarray:
    """Return each p times the number of tests, at most 1."""
    return np.minimum(1.0, np.asarray(ps, dtype=float) * len(ps))


def holm(ps: Chances) -> np.ndarray:
    """Holm's step-down correction: never below Bonferroni in power, valid for any dependence; NaN stays NaN."""
    given = np.asarray(ps, dtype=float)
    order, found, worst = np.argsort(given, kind="stable"), np.empty(len(ps)), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, float((len(ps) - rank) * given[i])))
        found[i] = worst
    return np.where(np.isnan(given), np.nan, found)


def benjamini_hochberg(ps: Chances) -> np.ndarray:
    """False-discovery q values: ``q_(i) = min over j >= i of p_(j) m / j``, for tests that do not oppose each other.

    Source:
        Benjamini and Hochberg 1995, J. R. Statist. Soc. B 57.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.005, 0.2]).round(4).tolist()
        [0.025, 0.05, 0.05, 0.025, 0.2]
    """
    given = np.asarray(ps, dtype=float)
    order = np.argsort(given, kind="stable")
    scaled = given[order] * len(ps) / np.arange(1, len(ps) + 1)
    found = np.empty(len(ps))
    found[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return found


def benjamini_yekutieli(ps: Chances) -> np.ndarray:
    """Return the same, valid for any dependence: times ``1 + 1/2 + ... + 1/m``.

    Source:
        Benjamini and Yekutieli 2001, Annals of Statistics 29.
    """
    return np.minimum(1.0, benjamini_hochberg(ps) * (1 / np.arange(1, len(ps) + 1)).sum())


def survivors_needed(smallest: float, tests: int, *, alpha: float = 0.05) -> int:
    """Say how many tests must reach the smallest possible p together before Benjamini-Hochberg marks any of them.

    Example:
        >>> survivors_needed(1e-4, 144), survivors_needed(2**-11, 144), survivors_needed(0.25, 144)
        (1, 2, 720)
    """
    return max(1, ceil(smallest * tests / alpha - 1e-9))


CORRECTIONS: Mapping[str, Callable[[Chances], np.ndarray]] = {"holm": holm, "bonferroni": bonferroni}
