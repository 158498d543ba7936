"""A paper's claim and what became of it here: tested by a criterion fixed before, or not testable, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from workbench.core.errors import RunError

Verdict = Literal["holds", "fails", "cannot be tested here"]
Rows = list[dict[str, Any]]
UNTESTABLE: Verdict = "cannot be tested here"
VERDICTS: tuple[Verdict, ...] = ("holds", "fails", UNTESTABLE)


@dataclass(frozen=True)
class Quantity:
    """What a library function measured for claims: a number, one value per item, or such values of several draws.

    Attributes:
        value: A number or a word; an array with one value per item; a list of arrays, one for each draw. None, or no
            items, where it could not be measured.
        n: How many items a number is over.
        control: That of its control, or a word.
        p: That of a test against chance.
        around: Ends of the 95 % interval of a number.
        unit, within: Of values per item: what they are, and what they can be.
        why: Why there is none.
    """

    value: Any
    n: int | None = None
    control: Any = None
    p: float | None = None
    around: tuple[float, float] | None = None
    unit: str = ""
    within: tuple[float, float] | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """One claim of the paper and what was found here.

    Attributes:
        criterion: The rule that decides, fixed before anything is measured.
        paper, found, control: The paper's number (or word), the one measured here, and that of the control.
        n: What the measured number is over: prompts, heads, draws.
        why: For a claim that cannot be tested: the reason.
        reason: Why this criterion and no other.
        source: Where the paper says it.
        model: The model it was tested on, where that is not the one that was asked for.
        difference: Of what was found from its control, where the interval is of that.
        low, high: Ends of the 95 % interval that the criterion looked at.
        p: The p value that the criterion looked at, corrected where several were.
        scope: How far the verdict reaches: "on this model", where there was one checkpoint, or "on 5 models".
    """

    claim: str
    criterion: str
    verdict: Verdict
    paper: float | str | None = None
    found: float | str | None = None
    control: float | str | None = None
    n: int | None = None
    why: str = ""
    reason: str = ""
    source: str = ""
    model: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    scope: str = ""

    @property
    def here(self) -> float | str | None:
        """What was found, for people: a number with the interval and the p that decided; else why nothing was.

        Example:
            >>> judge("it copies", "above 0.5", True, found=0.9, low=0.8, high=0.95, p=0.001).here
            '0.9 [0.8, 0.95], p 0.001'
        """
        about = [] if self.difference is None else [f"difference {self.difference:+.3g}"]
        if self.low is not None and self.high is not None:
            about[-1:] = [" ".join((*about, f"[{self.low:.3g}, {self.high:.3g}]"))]
        about += [] if self.p is None else [f"p {self.p:.3g}"]
        if isinstance(self.found, str) or not about:
            return self.found if self.found is not None else self.why or None
        start = "" if self.found is None else f"{self.found:.4g}"
        return start + (" " if about[0].startswith("[") else ", ") * bool(start) + ", ".join(about)

    @property
    def decided(self) -> str:
        """The verdict and how far it reaches: "holds on this model"."""
        return f"{self.verdict} {self.scope}".rstrip()

    def row(self, *, data: bool = False) -> dict[str, Any]:
        """One row of a table: for people, or as data with every number in a column of its own."""
        found = self.found if self.found is not None else self.why or None
        row = {"claim": self.claim, "paper": self.paper, "here": found if data else self.here}
        row |= {"control": self.control, "n": self.n, "verdict": self.verdict if data else self.decided}
        return row | (
            {k: getattr(self, k) for k in ("difference", "low", "high", "p", "scope")} if data else {}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; difference, interval, p and scope only where there are any."""
        some = ("difference", "low", "high", "p", "scope")
        return {k: v for k, v in plain(self.__dict__).items() if k not in some or v not in (None, "")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JudgedClaim:
        """Read what ``to_dict`` wrote.

        Raises:
            RunError: for fields or a verdict that no claim has.
        """
        try:
            claim = cls(**data)
        except TypeError as problem:
            raise RunError(
                f"this is no claim: {problem}", hint="measure it again: workbench replicate NAME"
            ) from None
        if claim.verdict not in VERDICTS:
            raise RunError(
                f"verdict is {claim.verdict!r:.40}; expected one of {', '.join(VERDICTS)}",
                hint="measure it again: workbench replicate NAME",
            )
        return claim


def judge(claim: str, criterion: str, holds: bool, **numbers: Any) -> JudgedClaim:
    """Return a claim that was tested: ``holds`` or ``fails``."""
    return JudgedClaim(claim=claim, criterion=criterion, verdict="holds" if holds else "fails", **numbers)


def untestable(claim: str, criterion: str, why: str, **numbers: Any) -> JudgedClaim:
    """Return a claim that could not be tested, and why."""
    return JudgedClaim(claim=claim, criterion=criterion, verdict=UNTESTABLE, why=why, **numbers)


def source_of(paper: str, where: str) -> str:
    """Return the paper and a place in it; what begins as "a control of ours" or the like is not the paper's and
    stays alone.

    Example:
        >>> source_of("He et al. 2025", "section 3"), source_of("He et al. 2025", "a control of ours")
        ('He et al. 2025, section 3', 'a control of ours')
    """
    ours = where.startswith(("a ", "an ")) and " of ours" in where
    return where if ours or not paper else f"{paper}, {where}"


def counts(claims: Iterable[JudgedClaim]) -> dict[str, int]:
    """Say how many claims hold, fail, cannot be tested."""
    found = Counter(claim.verdict for claim in claims)
    return {verdict: found.get(verdict, 0) for verdict in VERDICTS}


def tally(claims: Iterable[JudgedClaim]) -> str:
    """Return the same in words.

    Example:
        >>> tally([judge("it copies", "score above 0.5", True, found=0.9)])
        '1 hold, 0 fail, 0 cannot be tested here'
    """
    words = {"holds": "hold", "fails": "fail"}
    return ", ".join(f"{n} {words.get(verdict, verdict)}" for verdict, n in counts(claims).items())


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with numbers that JSON can hold; what is not finite is None."""
    return {str(key): number(value) for key, value in row.items()}


def number(value: Any) -> Any:
    """Return a number as JSON can hold it."""
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [number(v) for v in value]
    return float(value) if isfinite(float(value)) else None
