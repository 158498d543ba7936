"""Means and ratios of means with their intervals: by bootstrap, and exactly where all values are equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.stats.dependent_pairs import Clusters, cluster_index, grouped, resampled_means

RESAMPLES = 1000
ROUNDING = (
    1e-5  # below this share of the largest score a difference is float32 in another order, not behavior
)


SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)  # what a proportion can be, and a difference of two


class Interval(NamedTuple):
    """A 95 % interval with the standard error of the same resamples.

    Example:
        >>> Interval(0.25, 0.75, 0.1).shown(".2f"), no_interval("there is one value").shown()
        ('0.25 to 0.75', 'no interval: there is one value')
    """

    low: float
    high: float
    stderr: float

    @property
    def reason(self) -> str:
        """Why there is no interval; empty where there is one."""
        return "" if np.isfinite(self.low) and np.isfinite(self.high) else "it is not defined"

    def shown(self, form: str = ".3f", *, between: str = " to ") -> str:
        """Say both ends, or why there are none."""
        if self.reason:
            return f"no interval: {self.reason}"
        return f"{self.low:{form}}{between}{self.high:{form}}"


class _NoInterval(Interval):
    """Three NaN and the reason for them."""

    _why: str

    @property
    def reason(self) -> str:
        return self._why


def no_interval(reason: str) -> Interval:
    """Say that an interval is not known, and why.

    Args:
        reason: A clause such as "all pairs are of one cluster".

    Returns:
        An interval whose ends and standard error are NaN, with the ``reason``.
    """
    found = _NoInterval(np.nan, np.nan, np.nan)
    found._why = reason
    return found


def too_few_draws(n: int, clusters: Clusters = ()) -> str:
    """Say why ``n`` values have no interval; one independent draw does not show how others differ.

    Returns:
        The reason; empty where there are two independent draws or more.

    Raises:
        ShapeError: if there is not one cluster for each value.
    """
    independent = len(set(cluster_index(clusters, n).tolist()))
    if independent >= 2:
        return ""
    return (
        f"all {n} values are of one cluster" if n > 1 else f"there {'is one value' if n else 'are no values'}"
    )


def ratio(circuit: np.ndarray, full: np.ndarray, empty: np.ndarray) -> float:
    """Return ``(mean circuit - mean empty) / (mean full - mean empty)``; NaN where the gap is rounding."""
    return float(_ratios(np.asarray(circuit)[None], np.asarray(full)[None], np.asarray(empty)[None])[0])


def _ratios(circuit: np.ndarray, full: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """``(row,)`` ratios of means along the last axis."""
    gap = full.mean(-1) - empty.mean(-1)
    spread = np.maximum(np.maximum(np.abs(full).max(-1), np.abs(empty).max(-1)), 1e-12)
    # 1e-6: below this share of the metric's own size a float32 gap is rounding, not behavior
    clear = np.abs(gap) > 1e-6 * spread
    return np.where(clear, (circuit.mean(-1) - empty.mean(-1)) / np.where(clear, gap, 1.0), np.nan)


def area(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Area under points joined by straight lines, in order of ``x``."""
    order = np.argsort(x)
    xs, ys = np.asarray(x, dtype=float)[order], np.asarray(y, dtype=float)[order]
    return float((np.diff(xs) * (ys[1:] + ys[:-1]) / 2).sum())


def resamples(n: int, *, draws: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return ``(draw, n)`` indices of pairs, drawn with replacement."""
    return np.random.default_rng(seed).integers(0, n, (draws, n))


def pair_resamples(n: int, clusters: Clusters = (), *, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield the indices of pairs in each resample; those of one cluster are drawn together.

    Example:
        >>> drawn = pair_resamples(4, ["a", "a", "b", "b"], draws=20)
        >>> {(0 in one) == (1 in one) for one in map(np.ndarray.tolist, drawn)}
        {True}
    """
    if not grouped(clusters):
        yield from resamples(n, draws=draws, seed=seed)
        return
    index = cluster_index(clusters, n)
    members = [np.flatnonzero(index == one) for one in range(int(index.max()) + 1)]
    for drawn in resamples(len(members), draws=draws, seed=seed):
        yield np.concatenate([members[one] for one in drawn])


def resampled_interval(
    found: np.ndarray, value: float, *, mirrored: bool = False, within: tuple[float, float] | None = None
) -> Interval:
    """Estimate the 95 % interval of a statistic from its values in resamples: percentiles that hold the estimate.

    A resample adds the noise of a sample once more. Where a statistic only falls with noise, as the correlation of two
    means near 1 does, nearly all resamples are below the estimate, which is itself below the truth: percentiles then
    reach down twice and never up. ``mirrored`` takes their mirror image about the estimate too, and whichever reaches
    farther on each side.

    Args:
        found: One value for each resample; those that are not finite are left out.
        value: The estimate, from all items as they are.
        mirrored: For statistics whose resamples lie on one side of the estimate.
        within: What the statistic can be; a mirror image ends there.

    Returns:
        Ends and standard error in the statistic's unit. NaN with a reason where no resample has a finite value.

    Source:
        Davison and Hinkley 1997, Bootstrap Methods and their Application, section 5.2, for the mirror image.

    Example:
        >>> noisy = np.linspace(0.80, 0.92, 1001)
        >>> [round(resampled_interval(noisy, 0.9, mirrored=m, within=(-1, 1)).high, 3) for m in (False, True)]
        [0.917, 0.997]
    """
    if not np.isfinite(found).any():
        return no_interval("it is not defined in any resample")
    ends = [*np.nanpercentile(found, [2.5, 97.5]), value]
    if mirrored:
        ends += [float(np.clip(2 * value - end, *(within or (-np.inf, np.inf)))) for end in ends]
    return Interval(float(min(ends)), float(max(ends)), float(np.nanstd(found, ddof=1)))


def ratio_interval(
    circuit: np.ndarray,
    full: np.ndarray,
    empty: np.ndarray,
    *,
    clusters: Clusters = (),
    draws: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Estimate the interval of ``ratio`` by bootstrap over pairs.

    Args:
        clusters: A name per pair, equal for pairs that are not independent: these are drawn together.

    Returns:
        Ends and standard error of the ratio, without unit. NaN with a reason where there are fewer than two
        independent pairs, or no gap.

    Raises:
        ShapeError: if there is not one cluster for each pair.
    """
    n = len(full)
    few = too_few_draws(n, clusters)
    if few:
        return no_interval(few)
    value = ratio(circuit, full, empty)
    if not np.isfinite(value):
        return no_interval("there is no gap between full and empty")
    if grouped(clusters):
        means = resampled_means(np.stack([circuit, full, empty]), clusters, draws=draws, seed=seed)
        return resampled_interval(_ratios(*means.T[:, :, None]), value)
    drawn = resamples(n, draws=draws, seed=seed)
    return resampled_interval(_ratios(circuit[drawn], full[drawn], empty[drawn]), value)


def mean_interval(
    values: np.ndarray,
    *,
    within: tuple[float, float] | None = None,
    clusters: Clusters = (),
    draws: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Estimate the interval of a mean by bootstrap over its values.

    Equal values have a bootstrap of no width, as if nothing else could ever be seen. Where it is known ``within`` what
    the values can be, they get the exact bounds of ``equal_interval`` instead. Without it nothing bounds a value that
    was not seen: the width stays zero and says only that all were equal.

    Args:
        within: The least and the largest value there can be: ``SHARE`` for right or wrong, ``CHANGE`` for a difference
            of two of them.
        clusters: A name per value, equal for values that are not independent: these are drawn together.

    Returns:
        Ends and standard error of the mean, in the unit of the values. NaN with a reason where there are fewer than
        two independent values (one cluster does not show how others differ), or where a value is not finite.

    Raises:
        OptionError: if a value is outside ``within``.
        ShapeError: if there is not one cluster for each value.
    """
    few = too_few_draws(len(values), clusters)
    if few:
        return no_interval(few)
    if not np.isfinite(values).all():
        return no_interval("a value is not finite")
    least, largest = float(np.min(values)), float(np.max(values))
    if within is not None:
        # 1e-6: a mean of float32 shares may leave its range by rounding
        if least < within[0] - 1e-6 or largest > within[1] + 1e-6:
            raise OptionError(
                f"values from {least:g} to {largest:g} are not within {within[0]:g} to {within[1]:g}",
                hint="leave out within=, or give the bounds of the values",
            )
        if largest - least <= 1e-9:
            return equal_interval(least, len(set(clusters)) or len(values), within=within)
    if grouped(clusters):
        means = resampled_means(np.asarray(values)[None], clusters, draws=draws, seed=seed)[:, 0]
    else:
        means = values[resamples(len(values), draws=draws, seed=seed)].mean(1)
    return resampled_interval(means, float(np.mean(values)))


def equal_interval(value: float, n: int, *, within: tuple[float, float]) -> Interval:
    """Say what the mean can be when ``n`` draws all gave one value.

    A share ``q = 1 - 0.025 ** (1 / n)`` of the draws may be different and was still never seen: the upper end of the
    exact two-sided 95 % interval for 0 of ``n``, about ``3.7 / n`` (the one-sided rule of three says ``3 / n``). If all
    of these were at an end of the range, the mean would be there. For right or wrong it is the exact interval itself.

    Source:
        Clopper and Pearson 1934, Biometrika 26; Hanley and Lippman-Hand 1983, JAMA 249, for the rule of three.

    Example:
        >>> low, high, _ = equal_interval(1.0, 40, within=SHARE)
        >>> round(low, 4), high
        (0.9119, 1.0)
    """
    unseen = 1 - 0.025 ** (1 / n)
    low, high = value - unseen * (value - within[0]), value + unseen * (within[1] - value)
    return Interval(float(low), float(high), 0.0)


def beyond_rounding(differences: np.ndarray, *scores: np.ndarray) -> np.ndarray:
    """Return differences of scores, with zero where they are float32 in another order: 1e-5 of the largest score."""
    largest = max((float(np.abs(values).max()) for values in scores if np.size(values)), default=0.0)
    return np.where(np.abs(differences) <= ROUNDING * largest, 0.0, differences)
