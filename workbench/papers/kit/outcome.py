"""What a criterion is: a rule about conditions that says itself in words, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
        name, over: The conditions that it looked at; their means are told.
        tells_p: Whether p says why it came out so; not where a rule without a p failed beside one that has one.
    """

    holds: bool
    p: float | None = None
    lacks: str = ""
    interval: Interval | None = None
    difference: float | None = None
    found: float | None = None
    name: str = ""
    over: str | None = None
    tells_p: bool = True

    @property
    def met(self) -> bool:
        """Whether it is met by itself, its p included; no family is corrected for."""
        return self.holds and (self.p is None or self.p < ALPHA)


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
        found = self.test(c)
        return found if found.name else replace(found, name=self.name, over=self.over)

    def __and__(self, other: Criterion) -> Criterion:
        """Both rules; the larger of two p values is that of both.

        What is told (interval, difference, means of conditions) is of the rule that failed, the first if both did.
        Where both hold it is of the first rule that has an interval.
        """

        def both(c: Conditions) -> Outcome:
            one, two = self(c), other(c)
            ps = [p for p in (one.p, two.p) if p is not None]
            failed = [each for each in (one, two) if not each.met]
            told = failed[0] if failed else two if two.interval and not one.interval else one
            return replace(
                told,
                holds=one.holds and two.holds,
                p=float(np.max(ps)) if ps else None,  # NaN if one of them is
                lacks=one.lacks or two.lacks,
                found=next((x.found for x in (told, one, two) if x.found is not None), None),
                tells_p=not failed or (told.p is not None and told.tells_p),
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
