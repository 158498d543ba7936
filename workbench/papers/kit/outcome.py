"""What a criterion is: a rule about conditions that says itself in words, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.core.stats.intervals import Interval
from workbench.papers.kit.conditions import Conditions

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a criterion found.

    Attributes:
        holds: Whether it is met.
        p: For a test of chance the p value that is still to be judged.
        lacks: Why neither can be said: a number that is not there, or too few draws for any p below ``ALPHA``.
        interval, difference: What it looked at; the difference where the interval is of one.
        found: What it computed itself, such as a correlation.
    """

    holds: bool
    p: float | None = None
    lacks: str = ""
    interval: Interval | None = None
    difference: float | None = None
    found: float | None = None


@dataclass(frozen=True)
class Criterion:
    """A rule about conditions.

    Attributes:
        words: The rule as a sentence.
        test: The rule as a function of what was measured.
        name, over: The conditions whose means are reported as found and as control.
        reads: All that has to be measured. Where one is lacking (``Conditions.lack``), its reason is that of the claim.
    """

    words: str
    test: Callable[[Conditions], Outcome] = field(repr=False)
    name: str = ""
    over: str | None = None
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.reads:
            object.__setattr__(self, "reads", tuple(name for name in (self.name, self.over) if name))

    def __call__(self, c: Conditions) -> Outcome:
        return self.test(c)

    def __and__(self, other: Criterion) -> Criterion:
        """Both rules; the larger of two p values is that of both."""

        def both(c: Conditions) -> Outcome:
            one, two = self(c), other(c)
            ps = [p for p in (one.p, two.p) if p is not None]
            return Outcome(
                holds=one.holds and two.holds,
                p=float(np.max(ps)) if ps else None,  # NaN if one of them is
                lacks=one.lacks or two.lacks,
                interval=one.interval or two.interval,
                difference=one.difference if one.interval else two.difference,
                found=two.found if one.found is None else one.found,
            )

        name, over, reads = self.name or other.name, self.over or other.over, (*self.reads, *other.reads)
        subject = (
            said(self.name, self.over)
            if self.words.startswith(said(self.name, self.over))
            else said(self.name)
        )
        rest = other.words.removeprefix(f"{subject} ") if subject else other.words  # said once
        rest = other.words if rest.startswith("minus ") else rest
        return Criterion(f"{self.words}, and {rest}", both, name, over, reads)


def said(name: str, over: str | None = None) -> str:
    """A condition or number in words; ``shared heads[Jaccard]`` is the Jaccard of shared heads."""
    words = " of ".join(reversed(name.removesuffix("]").replace("][", "[").split("[")))
    one = f'"{words}"' if "," in words else words  # where the name ends
    return one if over is None else f"{one} minus {said(over)}"


def look(
    what: str, numbers: Sequence[float] | np.ndarray, holds: Callable[..., Any], *, why: str = ""
) -> Outcome:
    """The outcome of a rule about numbers, which must be there: a comparison with NaN would decide nothing."""
    if not np.isfinite(numbers).all():
        return Outcome(holds=False, lacks=f"{what} is not defined here{f': {why}' if why else ''}")
    return Outcome(holds=bool(holds(*numbers)))


def by_chance(p: float, least: float, what: str, *, holds: bool = True) -> Outcome:
    """The outcome of a test of chance whose p cannot be below ``least``."""
    short = f"{what} cannot give p below {ALPHA:g}" if least >= ALPHA else ""
    return Outcome(holds=holds, p=p, lacks=short)
