"""Means over items that are crossed with something else that is a sample too: tasks and words, models and prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.core.stats.intervals import (
    RESAMPLES,
    Interval,
    equal_interval,
    no_interval,
    resampled_interval,
    resamples,
)


def crossed_interval(
    rows: Sequence[np.ndarray],
    *,
    within: tuple[float, float] | None = None,
    draws: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Bootstrap the mean of a table whose rows and columns are both samples: both are drawn with replacement.

    Answers of one task depend on what was learned for it, answers about one place of a list on its words: neither are
    independent draws, and an interval over all answers as if they were would be too narrow.

    Args:
        rows: One value per column for each row; the same columns in the same order. A shorter row lacks the last
            columns, which then count for nothing.
        within: What the values can be. If all are equal, the interval is that of as many independent draws as there
            are rows or columns, whichever are fewer (``equal_interval``).

    Returns:
        95 % interval of the mean over all values, and its standard error. Draws in which no row has a value are left
        out. NaN with a reason where there are fewer than two rows or two columns (one of either does not show how
        others differ), or where a value is not finite.

    Source:
        Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1.
    """
    longest = max(map(len, rows), default=0)
    if len(rows) < 2 or longest < 2:
        return no_interval(f"a table of {len(rows)} by {longest} has not two rows and two columns")
    if not all(np.isfinite(values).all() for values in rows):
        return no_interval("a value is not finite")
    table = np.full((len(rows), longest), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    if within is not None and np.nanmax(table) - np.nanmin(table) <= 1e-9:
        return equal_interval(float(np.nanmin(table)), min(len(rows), longest), within=within)
    tasks, places = _counts(len(rows), draws, seed), _counts(longest, draws, seed + 1)
    there = np.isfinite(table)
    total = np.einsum("dt,tp,dp->d", tasks, np.where(there, table, 0.0), places)
    n = np.einsum("dt,tp,dp->d", tasks, there.astype(float), places)
    means = total[n > 0] / n[n > 0]
    return resampled_interval(means, float(np.nanmean(table)))


def _counts(n: int, draws: int, seed: int) -> np.ndarray:
    """``(draw, n)``: how often each of ``n`` is drawn."""
    drawn = resamples(n, draws=draws, seed=seed)
    return np.stack([(drawn == i).sum(1) for i in range(n)], axis=1).astype(float)
