"""The algebra of criteria: small tests of conditions, joined by ``&``; each says itself in words.

A criterion is data. Its sentence, the interval it looks at, and its verdict come from this one object. It gives a p
value where it is a test of chance; ``Claim`` compares that with ``ALPHA``, after Holm's correction in a family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from workbench.core.stats.agreement import spearman
from workbench.core.stats.association import adjusted_rand, auroc, paired_interval, slope
from workbench.core.stats.intervals import Interval
from workbench.core.stats.permutation import (
    LABELS,
    groupings,
    orders,
    p_above,
    permutation_p,
    sign_flip_p,
    within_and_between,
)
from workbench.papers.kit.conditions import Conditions
from workbench.papers.kit.outcome import ALPHA, Criterion, Outcome, by_chance, look, said


def _of_interval(words: str, holds: Callable[[float, float], Any], name: str, over: str | None) -> Criterion:
    what = f"the interval of {said(name, over)}"

    def test(c: Conditions) -> Outcome:
        found = c.interval(name, over)
        seen = look(what, found[:2], holds, why=found.reason)
        return replace(seen, interval=found, difference=None if over is None else c.mean(name, over))

    return Criterion(words, test, name, over)


def _of_mean(words: str, holds: Callable[[float], Any], name: str, over: str | None) -> Criterion:
    what = f"the mean of {said(name, over)}"
    return Criterion(words, lambda c: look(what, [c.mean(name, over)], holds), name, over)


def _compared(name: str, than: float | str, times: float, words: str, holds: Callable[..., Any]) -> Criterion:
    """A rule about a mean beside a number, or beside so many times another mean, which is the control."""
    if not isinstance(than, str):
        return _of_mean(f"{said(name)} {words} {than:g}", lambda mean: holds(mean, than), name, None)
    many = f"{times:g} times" if times > 1 else f"{100 * times:.4g}% of"
    share = "" if times == 1 else f"{_SHARES.get(times, many)} "
    what = f"the mean of {said(name)} or of {said(than)}"

    def test(c: Conditions) -> Outcome:
        return look(what, [c.mean(name), c.mean(than)], lambda mean, other: holds(mean, times * other))

    return Criterion(f"{said(name)} {words} {share}{said(than)}", test, name, than)


_SHARES = {1 / 2: "half of", 1 / 3: "a third of", 1 / 4: "a quarter of", 3 / 4: "three quarters of"}


def above(name: str, over: str | None = None, *, by: float = 0.0) -> Criterion:
    """The interval of a condition, or of its paired difference from another, lies above ``by``."""
    words = f"{said(name, over)} above {by:g}, interval included"
    return _of_interval(words, lambda low, high: low > by, name, over)


def below(name: str, over: str | None = None, *, by: float = 0.0) -> Criterion:
    """The interval of a condition, or of its paired difference from another, lies below ``by``."""
    words = f"{said(name, over)} below {by:g}, interval included"
    return _of_interval(words, lambda low, high: high < by, name, over)


def interval_excludes(name: str, over: str | None = None, *, value: float = 0.0) -> Criterion:
    """The interval lies on one side of a value, whichever."""
    words = f"the interval of {said(name, over)} excludes {value:g}"
    return _of_interval(words, lambda low, high: low > value or high < value, name, over)


def no_worse(name: str, over: str, *, within: float) -> Criterion:
    """A condition lacks at most ``within`` to another, the interval of the difference included."""
    words = f"{said(name)} at most {within:g} below {said(over)}, interval included"
    return _of_interval(words, lambda low, high: low >= -within, name, over)


def equal(name: str, over: str, *, within: float) -> Criterion:
    """Two conditions differ by at most ``within`` either way, interval included."""
    words = f"{said(name)} within {within:g} of {said(over)}, interval included"
    return _of_interval(words, lambda low, high: max(abs(low), abs(high)) <= within, name, over)


def at_least(name: str, least: float | str, *, over: str | None = None, times: float = 1.0) -> Criterion:
    """A mean (a measured number, a difference of two means) is at least so large, or so many times another mean.

    Example:
        >>> at_least("cases won", "cases", times=3 / 4).words
        'cases won at least three quarters of cases'
    """
    if over is None:
        return _compared(name, least, times, "at least", lambda mean, limit: mean >= limit)
    limit = float(least)
    return _of_mean(f"{said(name, over)} at least {limit:g}", lambda mean: mean >= limit, name, over)


def at_most(name: str, most: float | str, *, over: str | None = None, times: float = 1.0) -> Criterion:
    """A mean (a measured number, a difference of two means) is at most so large, or so many times another mean."""
    if over is None:
        return _compared(name, most, times, "at most", lambda mean, limit: mean <= limit)
    limit = float(most)
    return _of_mean(f"{said(name, over)} at most {limit:g}", lambda mean: mean <= limit, name, over)


def less(name: str, than: float | str, *, times: float = 1.0) -> Criterion:
    """A mean is less than a number, or than so many times another mean."""
    return _compared(name, than, times, "less than", lambda mean, limit: mean < limit)


def more(name: str, than: float | str, *, times: float = 1.0) -> Criterion:
    """A mean is more than a number, or than so many times another mean."""
    return _compared(name, than, times, "more than", lambda mean, limit: mean > limit)


def between(name: str, low: float, high: float) -> Criterion:
    """A mean lies between two numbers, both included."""
    return _of_mean(
        f"{said(name)} between {low:g} and {high:g}", lambda mean: low <= mean <= high, name, None
    )


def order(*names: str) -> Criterion:
    """Means fall from each condition (or number) to the next."""
    words = " above ".join(map(said, names))

    def test(c: Conditions) -> Outcome:
        return look(
            "one of the means", [*map(c.mean, names)], lambda *means: all(a > b for a, b in pairwise(means))
        )

    return Criterion(words, test, names[0], names[1], reads=names)


def share_above(name: str, threshold: float, *, least: float) -> Criterion:
    """At least this share of the items has a value above the threshold."""
    # 10 digits: 0.995 is 99.5 %, and 0.29 not 28.999999999999996 %
    words = f"at least {100 * least:.10g}% of {name} above {threshold:g}"

    def test(c: Conditions) -> Outcome:
        what = f"{name} of every item"
        return look(what, c[name], lambda *values: (np.array(values) > threshold).mean() >= least)

    return Criterion(words, test, name)


def correlates(name: str, other: str, *, least: float = 0.0) -> Criterion:
    """Two values of the same items have a rank correlation of at least so much, its interval above zero."""
    what = f"rank correlation of {name} and {other}"
    words = f"{what} at least {least:g}, interval above 0"
    return _of_pairs(words, what, spearman, name, other, lambda r, low, high: r >= least and low > 0)


def slopes(name: str, along: str, *, falls: bool = False) -> Criterion:
    """A value grows (or falls) with another one of the same items: the interval of the slope is on that side of 0."""
    words = f"{name} {'falls' if falls else 'grows'} with {along}, interval of the slope included"
    what = f"slope of {name} along {along}"

    def steepness(y: np.ndarray, x: np.ndarray) -> float:
        return slope(x, y)

    return _of_pairs(words, what, steepness, name, along, lambda _, low, high: high < 0 if falls else low > 0)


def tells(name: str, truth: str, *, above: float = 0.5) -> Criterion:
    """A value tells the items for which ``truth`` is 1 from those for which it is 0 (area under the ROC curve)."""
    what = f"AUROC of {name} for {truth}"
    words = f"{what} above {above:g}, interval included"
    return _of_pairs(words, what, area, name, truth, lambda _, low, high: low > above)


def _of_pairs(
    words: str,
    what: str,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    name: str,
    other: str,
    holds: Callable[[float, float, float], Any],
) -> Criterion:
    """A rule about a statistic of two values per item; items of one cluster are drawn together."""

    def test(c: Conditions) -> Outcome:
        if not np.isfinite([*c[name], *c[other]]).all():
            return Outcome(
                holds=False, lacks=f"the {what} is not defined here: not every item has both values"
            )
        around = paired_interval(statistic, c[name], c[other], clusters=c.clusters_of(name), seed=c.seed)
        found = statistic(c[name], c[other])
        seen = look(f"the interval of the {what}", [found, *around[:2]], holds)
        return replace(seen, interval=around, found=found)

    return Criterion(words, test, reads=(name, other))


def sign_changes(name: str, over: str) -> Criterion:
    """A mean has the other sign than that of another condition, the intervals of both included."""

    def test(c: Conditions) -> Outcome:
        ends = [*c.interval(name)[:2], *c.interval(over)[:2]]
        return look(
            f"the interval of {name} or of {over}",
            ends,
            lambda low, high, low_over, high_over: (low > 0 > high_over) or (high < 0 < low_over),
        )

    return Criterion(f"{name} has the other sign than {over}, intervals included", test, name, over)


def groups_agree(name: str, other: str, *, least: float) -> Criterion:
    """Two groupings of the same items, given as numbers, agree: adjusted Rand index, p by permuted labels."""

    def test(c: Conditions) -> Outcome:
        own, there = c[name], c[other].tolist()
        if not np.isfinite([*own, *there]).all():
            return Outcome(holds=False, lacks=f"{name} or {other} is not defined for every item")
        p = permutation_p(lambda given: adjusted_rand(given.tolist(), there), own, draws=1000, seed=c.seed)
        alike = adjusted_rand(own.tolist(), there) >= least
        return by_chance(p, _least(own, 1000), f"{len(own)} labels in other orders", holds=alike)

    words = (
        f"adjusted Rand index of {name} and {other} at least {least:g}, p below {ALPHA:g} (permuted labels)"
    )
    return Criterion(words, test)


def beats_draws(name: str, draws: str, *, over: str | None = None, lower: bool = False) -> Criterion:
    """A mean is larger than those of random draws; ``p = (1 + draws as large) / (1 + draws)``.

    Args:
        over: A condition that is taken from both sides first.
        lower: It is smaller, not larger.
    """
    sign, words = (-1.0, "below") if lower else (1.0, "above")

    def test(c: Conditions) -> Outcome:
        base = 0.0 if over is None else c.mean(over)
        null = np.array([sign * (float(np.mean(draw)) - base) for draw in c.draws[draws]])
        p = p_above(sign * (c.mean(name) - base), null)
        return by_chance(p, 1 / (1 + len(null)), f"{len(null)} draws")

    return Criterion(f"{said(name)} {words} {said(draws)}, p below {ALPHA:g} over draws", test, name, draws)


def flips(name: str, over: str | None = None) -> Criterion:
    """A mean (difference) is above zero by flips of the signs of independent items."""

    def test(c: Conditions) -> Outcome:
        p, n = sign_flip_p(c.of(name, over), c.measures[name].clusters, seed=c.seed), c.n(name)
        return by_chance(p, 0.5**n, f"signs of {n} independent items", holds=c.mean(name, over) > 0)

    return Criterion(f"{said(name, over)} above 0, p below {ALPHA:g} (sign flips)", test, name, over)


def permuted(
    words: str,
    statistic: Callable[[np.ndarray, Conditions], float],
    labels: Callable[[Conditions], Sequence],
    *,
    draws: int = 4000,
) -> Criterion:
    """A statistic of labels is larger than when the labels are dealt to the items at random, and above zero.

    Args:
        words: What the statistic is.
        statistic: From one label per item and what was measured.
        labels: The labels of the items.
    """

    def test(c: Conditions) -> Outcome:
        own = np.asarray(labels(c))
        p = permutation_p(lambda given: statistic(given, c), own, draws=draws, seed=c.seed)
        least = _least(own, draws)
        found = float(statistic(own, c))
        outcome = by_chance(p, least, f"{len(own)} labels in other orders", holds=found > 0)
        return replace(outcome, found=found)

    return Criterion(f"{words} above 0, p below {ALPHA:g} when labels are permuted", test)


def dealt(
    words: str,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    name: str,
    labels: str,
    *,
    draws: int = 4000,
) -> Criterion:
    """A statistic of the values and the labels of items is larger than with the labels dealt at random.

    Args:
        words: What the statistic is.
        statistic: Of the values ``name`` and of ``labels``: two conditions, or two numbers by the name of each item.
    """

    def values(c: Conditions, asked: str) -> np.ndarray:
        return c[asked] if asked in c else np.array([*c.number(asked).values()])

    return permuted(
        words,
        lambda given, c: statistic(values(c, name), np.asarray(given, dtype=float)),
        lambda c: values(c, labels).tolist(),
        draws=draws,
    )


def area(values: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of values for the items whose truth is 1, not 0."""
    return auroc(values, truth > 0.5)


def groups_differ(name: str, groups: str, *, larger: bool = False) -> Criterion:
    """Pairs of different groups are smaller (or ``larger``) in a measure than pairs of one group, by permuted groups.

    Args:
        name: Among the numbers, the measure of every pair ``[item][item]``.
        groups: Among the numbers, the group of every item.
    """
    sign, words = (-1.0, "larger") if larger else (1.0, "smaller")

    def test(c: Conditions) -> Outcome:
        pairs, own = np.asarray(c.number(name)), np.asarray(c.number(groups))
        if not 1 < len(set(own.tolist())) < len(own):
            return Outcome(holds=False, lacks="all are of one group, or none are")

        def gap(given: np.ndarray) -> float:
            within, between = within_and_between(pairs, given)
            return sign * (within - between)

        p = permutation_p(gap, own, draws=4000, seed=c.seed)
        return by_chance(
            p, 1 / groupings(own.tolist()), f"{len(own)} items in other groups", holds=gap(own) > 0
        )

    return Criterion(
        f"{name} {words} between groups than within them, p below {ALPHA:g} when groups are permuted", test
    )


def _least(labels: np.ndarray, draws: int) -> float:
    """The least p that labels in other orders can give: gone through, or drawn."""
    return max(1 / orders(labels.tolist()), 1 / (1 + draws) if len(labels) > LABELS else 0.0)


def given_p(name: str) -> Criterion:
    """A p value that was computed while measuring is below ``ALPHA``."""
    return Criterion(f"{said(name)} below {ALPHA:g}", lambda c: Outcome(holds=True, p=c.number(name)))


def beyond(name: str, chance: str = "") -> Criterion:
    """A number that was told with its p is larger than by chance.

    Args:
        name: Of what was told (``Conditions.tell``), or of a condition whose p was.
        chance: What chance is here, in words: "shifted peaks".
    """
    words = f"{said(name)} {f'above that of {chance}' if chance else 'beyond chance'}, p below {ALPHA:g}"
    return Criterion(words, lambda c: Outcome(holds=True, p=c.p_of(name)), name)


def fact(
    words: str,
    holds: Callable[[Conditions], Any],
    name: str = "",
    over: str | None = None,
    *,
    intervals: Callable[[Conditions], Sequence[Interval]] = lambda c: (),
) -> Criterion:
    """State a rule of a paper's own, in words and as a function of what was measured.

    Args:
        name, over: The conditions whose means are told as found and as control.
        intervals: The intervals that the rule looks at. Where one is not known, the rule cannot be tested.

    Returns:
        The criterion, which has no p value.
    """

    def test(c: Conditions) -> Outcome:
        why = next((one.reason for one in intervals(c) if one.reason), "")
        if why:
            return Outcome(holds=False, lacks=f'an interval of "{words}" is not defined here: {why}')
        return Outcome(holds=bool(holds(c)))

    return Criterion(words, test, name, over)
