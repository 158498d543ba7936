"""Chance, in formulas: the names of ``workbench/core/stats/``, for whoever asks for them in one place.

Everything is computed from arrays alone, so that a verdict can be computed again from what is in a file.
"""

from __future__ import annotations

from workbench.circuits.verdicts.hypothesis_tests import (
    TestResult,
    beats_random,
    clearly_less,
    edge_minimality,
    equivalence,
    equivalence_p,
    hsic,
    independence,
)
from workbench.core.stats.binomial import at_least, at_most, binomial
from workbench.core.stats.intervals import (
    CHANGE,
    RESAMPLES,
    ROUNDING,
    SHARE,
    Interval,
    area,
    equal_interval,
    mean_interval,
    ratio,
    ratio_interval,
    resamples,
)
from workbench.core.stats.multiplicity import CORRECTIONS, bonferroni, holm

__all__ = [
    "CHANGE",
    "CORRECTIONS",
    "RESAMPLES",
    "ROUNDING",
    "SHARE",
    "Interval",
    "TestResult",
    "area",
    "at_least",
    "at_most",
    "beats_random",
    "binomial",
    "bonferroni",
    "clearly_less",
    "edge_minimality",
    "equal_interval",
    "equivalence",
    "equivalence_p",
    "holm",
    "hsic",
    "independence",
    "mean_interval",
    "ratio",
    "ratio_interval",
    "resamples",
]
