"""How far two lists agree over all items, estimated from a sample of items drawn by strata."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.core.stats.agreement import pearson, spearman
from workbench.core.stats.intervals import RESAMPLES, Interval, no_interval
from workbench.core.stats.strata import Stratified


def agreement_over(
    scores: np.ndarray,
    exact: np.ndarray,
    sample: Stratified,
    *,
    unsigned: bool = False,
    draws: int = RESAMPLES,
    seed: int = 0,
) -> tuple[tuple[float, Interval], tuple[float, Interval]]:
    """Estimate linear and rank correlation over all edges from the drawn ones, each with its interval.

    Returns:
        Pearson's and Spearman's correlation, -1 to 1, with 95 % intervals by bootstrap over the drawn edges.
    """
    weights = None if sample.whole else sample.weights
    again: np.ndarray = sample.resampled(draws=0 if sample.whole else draws, seed=seed)
    found = []
    for kind in (pearson, spearman):
        value = correlation(scores, exact, kind, unsigned=unsigned, weights=weights)
        if sample.whole and np.isfinite(value):
            found.append((value, Interval(value, value, 0.0)))
            continue
        others = np.array([correlation(scores, exact, kind, unsigned=unsigned, weights=w) for w in again])
        found.append((value, _interval(value, others, sample)))
    return found[0], found[1]


def correlation(
    scores: np.ndarray,
    exact: np.ndarray,
    kind: Callable[..., float],
    *,
    unsigned: bool,
    weights: np.ndarray | None = None,
) -> float:
    """Correlate scores with exact effects; scores without a sign with their sizes. ``kind``: pearson or spearman."""
    return kind(scores, np.abs(exact) if unsigned else exact, weights)


def _interval(value: float, resampled: np.ndarray, sample: Stratified) -> Interval:
    """The percentiles of the resamples, or Fisher's interval where that is wider, end by end."""
    if not np.isfinite(value) or not np.isfinite(resampled).any():
        return no_interval("the edges that were measured all have one score or one effect")
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    least, most = _fisher(value, sample)
    return Interval(float(min(low, least)), float(max(high, most)), float(np.nanstd(resampled, ddof=1)))


def _fisher(value: float, sample: Stratified) -> tuple[float, float]:
    """Fisher's 95 % interval of a correlation for Kish's effective number of draws, corrected for a finite number of
    edges; -1 to 1 for three effective draws or fewer.
    """
    weights, drawn = sample.weights, len(sample.items)
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    if effective <= 3:
        return -1.0, 1.0
    spread = 1.96 * np.sqrt((1 - drawn / weights.sum()) / (effective - 3))
    middle = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(middle - spread)), float(np.tanh(middle + spread))
