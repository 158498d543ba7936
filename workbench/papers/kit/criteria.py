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
from workbench.core.stats.permutation import p_above, permutation_p, sign_flip_p
from workbench.papers.kit.conditions import Conditions

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a criterion found: whether it is met, and for a test of chance the p value that is still to be judged."""

    holds: bool
    p: float | None = None


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
            return Outcome(holds=one.holds and two.holds, p=max(ps) if ps else None)

        return Criterion(f"{self.words}, and {other.words}", both, self.name, self.over or other.over)


def _said(name: str, over: str | None) -> str:
    return name if over is None else f"{name} minus {over}"


def _rule(
    words: str, holds: Callable[[Conditions], Any], name: str = "", over: str | None = None
) -> Criterion:
    return Criterion(words, lambda c: Outcome(holds=bool(holds(c))), name, over)


def above(name: str, over: str | None = None, *, by: float = 0.0) -> Criterion:
    """The interval of a condition, or of its paired difference from another, lies above ``by``."""
    words = f"{_said(name, over)} above {by:g}, interval included"
    return _rule(words, lambda c: c.interval(name, over).low > by, name, over)


def below(name: str, over: str | None = None, *, by: float = 0.0) -> Criterion:
    """The interval of a condition, or of its paired difference from another, lies below ``by``."""
    words = f"{_said(name, over)} below {by:g}, interval included"
    return _rule(words, lambda c: c.interval(name, over).high < by, name, over)


def interval_excludes(name: str, over: str | None = None, *, value: float = 0.0) -> Criterion:
    """The interval lies on one side of a value, whichever."""

    def holds(c: Conditions) -> bool:
        low, high, _ = c.interval(name, over)
        return low > value or high < value

    return _rule(f"the interval of {_said(name, over)} excludes {value:g}", holds, name, over)


def no_worse(name: str, over: str, *, within: float) -> Criterion:
    """A condition lacks at most ``within`` to another, the interval of the difference included."""
    words = f"{name} at most {within:g} below {over}, interval included"
    return _rule(words, lambda c: c.interval(name, over).low >= -within, name, over)


def equal(name: str, over: str, *, within: float) -> Criterion:
    """Two conditions differ by at most ``within`` either way, interval included."""

    def holds(c: Conditions) -> bool:
        low, high, _ = c.interval(name, over)
        return max(abs(low), abs(high)) <= within

    return _rule(f"{name} within {within:g} of {over}, interval included", holds, name, over)


def at_least(name: str, least: float, *, over: str | None = None) -> Criterion:
    """A mean (a measured number, a difference of two means) is at least so large."""
    words = f"{_said(name, over)} at least {least:g}"
    return _rule(words, lambda c: c.mean(name, over) >= least, name, over)


def at_most(name: str, most: float, *, over: str | None = None) -> Criterion:
    """A mean (a measured number, a difference of two means) is at most so large."""
    words = f"{_said(name, over)} at most {most:g}"
    return _rule(words, lambda c: c.mean(name, over) <= most, name, over)


def order(*names: str) -> Criterion:
    """Means fall from each condition (or number) to the next."""
    words = " above ".join(names)
    return _rule(words, lambda c: all(c.mean(a) > c.mean(b) for a, b in pairwise(names)), *names[:2])


def share_above(name: str, threshold: float, *, least: float) -> Criterion:
    """At least this share of the items has a value above the threshold."""
    words = f"at least {least:.0%} of {name} above {threshold:g}"
    return _rule(words, lambda c: (c[name] > threshold).mean() >= least, name)


def correlates(name: str, other: str, *, least: float = 0.0) -> Criterion:
    """Two values of the same items have a rank correlation of at least so much, its interval above zero."""

    def holds(c: Conditions) -> bool:
        low, _, _ = paired_interval(spearman, c[name], c[other], seed=c.seed)
        return spearman(c[name], c[other]) >= least and low > 0

    return _rule(f"rank correlation of {name} and {other} at least {least:g}, interval above 0", holds)


def slopes(name: str, along: str, *, falls: bool = False) -> Criterion:
    """A value grows (or falls) with another one of the same items: the interval of the slope is on that side of 0."""

    def holds(c: Conditions) -> bool:
        low, high, _ = paired_interval(slope, c[along], c[name], seed=c.seed)
        return high < 0 if falls else low > 0

    return _rule(
        f"{name} {'falls' if falls else 'grows'} with {along}, interval of the slope included", holds
    )


def tells(name: str, truth: str, *, above: float = 0.5) -> Criterion:
    """A value tells the items for which ``truth`` is 1 from those for which it is 0 (area under the ROC curve)."""

    def holds(c: Conditions) -> bool:
        return paired_interval(auroc, c[name], c[truth] > 0.5, seed=c.seed).low > above

    return _rule(f"AUROC of {name} for {truth} above {above:g}, interval included", holds)


def sign_changes(name: str, over: str) -> Criterion:
    """A mean has the other sign than that of another condition, the intervals of both included."""

    def holds(c: Conditions) -> bool:
        (low, high, _), (low_over, high_over, _) = c.interval(name), c.interval(over)
        return (low > 0 and high_over < 0) or (high < 0 and low_over > 0)

    return _rule(f"{name} has the other sign than {over}, intervals included", holds, name, over)


def groups_agree(name: str, other: str, *, least: float) -> Criterion:
    """Two groupings of the same items, given as numbers, agree: adjusted Rand index, p by permuted labels."""

    def test(c: Conditions) -> Outcome:
        there = c[other].tolist()
        p = permutation_p(
            lambda given: adjusted_rand(given.tolist(), there), c[name], draws=1000, seed=c.seed
        )
        return Outcome(holds=adjusted_rand(c[name].tolist(), there) >= least, p=p)

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
        return Outcome(holds=True, p=p_above(sign * (c.mean(name) - base), null))

    return Criterion(f"{name} {words} {draws}, p below {ALPHA:g} over draws", test, name, draws)


def flips(name: str, over: str | None = None) -> Criterion:
    """A mean (difference) is above zero by flips of the signs of independent items."""

    def test(c: Conditions) -> Outcome:
        p = sign_flip_p(c.of(name, over), c.measures[name].clusters, seed=c.seed)
        return Outcome(holds=c.mean(name, over) > 0, p=p)

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
        return Outcome(holds=statistic(own, c) > 0, p=p)

    return Criterion(f"{words} above 0, p below {ALPHA:g} when labels are permuted", test)


def given_p(name: str) -> Criterion:
    """A p value that was computed while measuring is below ``ALPHA``."""
    return Criterion(f"{name} below {ALPHA:g}", lambda c: Outcome(holds=True, p=c.numbers[name]))


def fact(words: str, holds: Callable[[Conditions], Any]) -> Criterion:
    """A rule of a paper's own, in words and as a function of what was measured."""
    return _rule(words, holds)
