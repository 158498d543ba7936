"""The algebra of criteria: small tests of conditions, joined by ``&``; each says itself in words.

A criterion is data. Its sentence, the interval it looks at, and its verdict come from this one object. It gives a p
value where it is a test of chance; ``Claim`` compares that with ``ALPHA``, after Holm's correction in a family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a criterion found.

    Attributes:
        holds: Whether it is met.
        p: For a test of chance the p value that is still to be judged.
        lacks: Why neither can be said: a number that is not there, or too few draws for any p below ``ALPHA``.
    """

    holds: bool
    p: float | None = None
    lacks: str = ""


@dataclass(frozen=True)
class Criterion:
    """A rule about conditions.

    Attributes:
        words: The rule as a sentence.
        test: The rule as a function of what was measured.
        name, over: The conditions whose means are reported as found and as control.
    """

    words: str
    test: Callable[[Conditions], Outcome] = field(repr=False)
    name: str = ""
    over: str | None = None

    def __call__(self, c: Conditions) -> Outcome:
        return self.test(c)

    def __and__(self, other: Criterion) -> Criterion:
        """Both rules; the larger of two p values is that of both."""

        def both(c: Conditions) -> Outcome:
            one, two = self(c), other(c)
            ps = [p for p in (one.p, two.p) if p is not None]
            p = float(np.max(ps)) if ps else None  # NaN if one of them is
            return Outcome(holds=one.holds and two.holds, p=p, lacks=one.lacks or two.lacks)

        return Criterion(f"{self.words}, and {other.words}", both, self.name, self.over or other.over)


def _said(name: str, over: str | None = None) -> str:
    """A condition or number in words; ``shared heads[Jaccard]`` is the Jaccard of shared heads."""
    words = " of ".join(reversed(name.removesuffix("]").replace("][", "[").split("[")))
    one = f'"{words}"' if "," in words else words  # where the name ends
    return one if over is None else f"{one} minus {_said(over)}"


def _seen(
    what: str, numbers: Sequence[float] | np.ndarray, holds: Callable[..., Any], *, why: str = ""
) -> Outcome:
    """The outcome of a rule about numbers, which must be there: a comparison with NaN would decide nothing."""
    if not np.isfinite(numbers).all():
        return Outcome(holds=False, lacks=f"{what} is not defined here{f': {why}' if why else ''}")
    return Outcome(holds=bool(holds(*numbers)))


def _of_interval(words: str, holds: Callable[[float, float], Any], name: str, over: str | None) -> Criterion:
    what = f"the interval of {_said(name, over)}"

    def test(c: Conditions) -> Outcome:
        found = c.interval(name, over)
        return _seen(what, found[:2], holds, why=found.reason)

    return Criterion(words, test, name, over)


def _of_mean(words: str, holds: Callable[[float], Any], name: str, over: str | None) -> Criterion:
    what = f"the mean of {_said(name, over)}"
    return Criterion(words, lambda c: _seen(what, [c.mean(name, over)], holds), name, over)


def _by_chance(p: float, least: float, what: str, *, holds: bool = True) -> Outcome:
    """The outcome of a test of chance whose p cannot be below ``least``."""
    short = f"{what} cannot give p below {ALPHA:g}" if least >= ALPHA else ""
    return Outcome(holds=holds, p=p, lacks=short)


def above(name: str, over: str | None = None, *, by: float = 0.0) -> Criterion:
    """The interval of a condition, or of its paired difference from another, lies above ``by``."""
    words = f"{_said(name, over)} above {by:g}, interval included"
    return _of_interval(words, lambda low, high: low > by, name, over)


def below(name: str, over: str | None = None, *, by: float = 0.0) -> Criterion:
    """The interval of a condition, or of its paired difference from another, lies below ``by``."""
    words = f"{_said(name, over)} below {by:g}, interval included"
    return _of_interval(words, lambda low, high: high < by, name, over)


def interval_excludes(name: str, over: str | None = None, *, value: float = 0.0) -> Criterion:
    """The interval lies on one side of a value, whichever."""
    words = f"the interval of {_said(name, over)} excludes {value:g}"
    return _of_interval(words, lambda low, high: low > value or high < value, name, over)


def no_worse(name: str, over: str, *, within: float) -> Criterion:
    """A condition lacks at most ``within`` to another, the interval of the difference included."""
    words = f"{_said(name)} at most {within:g} below {_said(over)}, interval included"
    return _of_interval(words, lambda low, high: low >= -within, name, over)


def equal(name: str, over: str, *, within: float) -> Criterion:
    """Two conditions differ by at most ``within`` either way, interval included."""
    words = f"{_said(name)} within {within:g} of {_said(over)}, interval included"
    return _of_interval(words, lambda low, high: max(abs(low), abs(high)) <= within, name, over)


def at_least(name: str, least: float, *, over: str | None = None) -> Criterion:
    """A mean (a measured number, a difference of two means) is at least so large."""
    words = f"{_said(name, over)} at least {least:g}"
    return _of_mean(words, lambda mean: mean >= least, name, over)


def at_most(name: str, most: float, *, over: str | None = None) -> Criterion:
    """A mean (a measured number, a difference of two means) is at most so large."""
    words = f"{_said(name, over)} at most {most:g}"
    return _of_mean(words, lambda mean: mean <= most, name, over)


def order(*names: str) -> Criterion:
    """Means fall from each condition (or number) to the next."""
    words = " above ".join(map(_said, names))

    def test(c: Conditions) -> Outcome:
        return _seen(
            "one of the means", [*map(c.mean, names)], lambda *means: all(a > b for a, b in pairwise(means))
        )

    return Criterion(words, test, *names[:2])


def share_above(name: str, threshold: float, *, least: float) -> Criterion:
    """At least this share of the items has a value above the threshold."""
    # 10 digits: 0.995 is 99.5 %, and 0.29 not 28.999999999999996 %
    words = f"at least {100 * least:.10g}% of {name} above {threshold:g}"

    def test(c: Conditions) -> Outcome:
        what = f"{name} of every item"
        return _seen(what, c[name], lambda *values: (np.array(values) > threshold).mean() >= least)

    return Criterion(words, test, name)


def correlates(name: str, other: str, *, least: float = 0.0) -> Criterion:
    """Two values of the same items have a rank correlation of at least so much, its interval above zero."""
    what = f"rank correlation of {name} and {other}"

    def test(c: Conditions) -> Outcome:
        r, low, _ = spearman(c[name], c[other]), *_paired(spearman, c, name, c[name], c[other])
        return _seen(f"the interval of the {what}", [r, low], lambda r, low: r >= least and low > 0)

    return Criterion(f"{what} at least {least:g}, interval above 0", test)


def slopes(name: str, along: str, *, falls: bool = False) -> Criterion:
    """A value grows (or falls) with another one of the same items: the interval of the slope is on that side of 0."""

    def test(c: Conditions) -> Outcome:
        ends = _paired(slope, c, name, c[along], c[name])
        what = f"the interval of the slope of {name} along {along}"
        return _seen(what, ends, lambda low, high: high < 0 if falls else low > 0)

    words = f"{name} {'falls' if falls else 'grows'} with {along}, interval of the slope included"
    return Criterion(words, test)


def tells(name: str, truth: str, *, above: float = 0.5) -> Criterion:
    """A value tells the items for which ``truth`` is 1 from those for which it is 0 (area under the ROC curve)."""

    def test(c: Conditions) -> Outcome:
        if not np.isfinite(c[truth]).all():
            return Outcome(holds=False, lacks=f"{truth} is not defined for every item")
        ends = _paired(auroc, c, name, c[name], c[truth] > 0.5)
        return _seen(f"the AUROC of {name} for {truth}", ends, lambda low, high: low > above)

    return Criterion(f"AUROC of {name} for {truth} above {above:g}, interval included", test)


def _paired(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    c: Conditions,
    name: str,
    x: np.ndarray,
    y: np.ndarray,
) -> Sequence[float]:
    """The ends of the interval of a statistic of two values per item; items of one cluster are drawn together."""
    return paired_interval(statistic, x, y, clusters=c.clusters_of(name), seed=c.seed)[:2]


def sign_changes(name: str, over: str) -> Criterion:
    """A mean has the other sign than that of another condition, the intervals of both included."""

    def test(c: Conditions) -> Outcome:
        ends = [*c.interval(name)[:2], *c.interval(over)[:2]]
        return _seen(
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
        return _by_chance(p, _least(own, 1000), f"{len(own)} labels in other orders", holds=alike)

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
        return _by_chance(p, 1 / (1 + len(null)), f"{len(null)} draws")

    return Criterion(f"{_said(name)} {words} {_said(draws)}, p below {ALPHA:g} over draws", test, name, draws)


def flips(name: str, over: str | None = None) -> Criterion:
    """A mean (difference) is above zero by flips of the signs of independent items."""

    def test(c: Conditions) -> Outcome:
        p, n = sign_flip_p(c.of(name, over), c.measures[name].clusters, seed=c.seed), c.n(name)
        return _by_chance(p, 0.5**n, f"signs of {n} independent items", holds=c.mean(name, over) > 0)

    return Criterion(f"{_said(name, over)} above 0, p below {ALPHA:g} (sign flips)", test, name, over)


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
        return _by_chance(p, least, f"{len(own)} labels in other orders", holds=statistic(own, c) > 0)

    return Criterion(f"{words} above 0, p below {ALPHA:g} when labels are permuted", test)


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
        return _by_chance(
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
    return Criterion(f"{_said(name)} below {ALPHA:g}", lambda c: Outcome(holds=True, p=c.number(name)))


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
