"""The one claim of a paper that its entry shows: which, what its two bars are called, and its numbers in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.claims import UNTESTABLE, JudgedClaim
from workbench.papers.registry import PAPERS
from workbench.papers.result import Result
from workbench.papers.sixty import listed
from workbench.view.bars import Bar
from workbench.view.few_bars import few_bars_svg
from workbench.view.html import short
from workbench.view.pictures import Picture
from workbench.view.text import number

GO_ON = ("and ", "so ", "because ", "it ", "more than ")
"""With these words a claim goes on from the one before it."""
OURS = ("a control of ours", "an extension of ours")
_RULE = "minus|above|below|at most|at least|less than|more than|within|between|falls|grows"
_FIRST = re.compile(rf'(?:the interval of )?"?(.+?)"? (?:{_RULE}) ')
_THAT_OF = re.compile(r" (?:above|below|beyond) that of ([^,]+)")
_TRAINING = re.compile(r", (?:training|pair) \d+")
_OTHER = re.compile(rf' minus "?(.+?)"? (?:{_RULE}) ')
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ShownNumber:
    """One of the two numbers of a claim: what it is of, and its condition where it is the mean of one."""

    name: str
    value: float
    row: Row

    @property
    def bar(self) -> Bar:
        """Its bar, with the interval of its condition."""
        return (self.name, self.value, _float(self.row.get("low")), _float(self.row.get("high")), "")


def main_claim(
    claims: Sequence[JudgedClaim], *, rows: Sequence[Row] = (), known_for: str = ""
) -> JudgedClaim | None:
    """Return the claim of the chart: one that was decided by a number beside a control.

    The claim that the paper is known for comes first, whatever its verdict. Then those of the paper itself come before
    ours, and those that read well alone before those that go on from another.

    Args:
        rows: The conditions that were measured.
        known_for: What the claim says that ``papers.json`` names.
    """

    def fits(claim: JudgedClaim) -> bool:
        return claim.verdict != UNTESTABLE and len(list(_values(claim, rows))) > 1

    def rank(claim: JudgedClaim) -> tuple[bool, bool, bool]:
        return (claim.claim != known_for, claim.source in OURS, claim.claim.startswith(GO_ON))

    return min(filter(fits, claims), key=rank, default=None)


def shown_claim(result: Result) -> JudgedClaim | None:
    """Return the claim that the entry of a paper shows, if one was decided by a number beside a control."""
    own = PAPERS.get(result.name).claims if result.name in PAPERS else {}
    key = listed(result.name).get("known for", "")
    known_for = own[key].says if key in own else ""
    return main_claim(result.findings.claims, rows=_rows(result), known_for=known_for)


def chart_of(result: Result) -> str:
    """Return a small chart of a paper's claim beside its control; else its first picture; else nothing."""
    claim = shown_claim(result)
    if claim is None:
        pictures: list[Picture] = list(result.findings.pictures.values())
        return pictures[0].svg() if pictures else ""
    both = sides(claim, _rows(result))
    return few_bars_svg([side.bar for side in both], unit=_unit(both), title=claim.claim)


def numbers_of(claim: JudgedClaim, result: Result) -> dict[str, Any]:
    """Return the numbers of a claim in words, by what they are; what is not known is empty."""
    measured, control = both = sides(claim, _rows(result))
    around = "" if claim.low is None or claim.high is None else f"{number(claim.low)} to {number(claim.high)}"
    of = "95 % interval" if claim.difference is None else "difference"
    if claim.difference is not None:
        around = number(claim.difference) + (f" (95 % interval {around})" if around else "")
    return {
        "measured": f"{number(measured.value)} ({measured.name})" + _more(claim.found),
        "control": f"{number(control.value)} ({control.name})" + _more(claim.control),
        "unit": _unit(both),
        "n": claim.n,
        of: around,
        "p": "" if claim.p is None else number(claim.p),
        "holds if": rule_of(claim.criterion),
        "in the paper": "" if claim.paper is None else short(claim.paper),
        "why this rule": claim.reason,
    }


def rule_of(criterion: str) -> str:
    """Return a criterion as it is shown: one that every training has to meet is said once.

    Example:
        >>> rule_of('a minus b above 0, and "a, training 1" minus "b, training 1" above 0')
        'a minus b above 0, and so in each training'
    """
    parts = criterion.split(", and ")
    whole = [part for part in parts if not _TRAINING.search(part)]
    each = {_of_all(part) for part in parts if _TRAINING.search(part)}
    if not each or each != {_of_all(part) for part in whole}:
        return criterion
    return ", and ".join([*whole, "so in each training"])


def _of_all(rule: str) -> str:
    return _TRAINING.sub("", rule).replace('"', "")


def sides(claim: JudgedClaim, rows: Sequence[Row]) -> tuple[ShownNumber, ShownNumber]:
    """Return what was measured and its control, each by the name of its condition.

    Several conditions may have the same mean: the one that the criterion names is meant.
    """
    first, second = list(_values(claim, rows))[:2]
    named = conditions_in(claim.criterion, rows)
    own = _of_mean(first, named) or _of_mean(first, rows)
    others = [row for row in (*named, *rows) if row is not own]
    name = _said(own, _FIRST.match(claim.criterion), "measured")
    row = _of_mean(second, others)
    pattern = _THAT_OF if " minus " in name else _OTHER  # of a difference the control is no part of it
    words = pattern.search(claim.criterion) or _THAT_OF.search(claim.criterion)
    return (
        ShownNumber(name=name, value=first, row=own),
        ShownNumber(name=_said(row, words, "control"), value=second, row=row),
    )


def conditions_in(criterion: str, rows: Sequence[Row]) -> list[Row]:
    """Return the conditions that a criterion names, in its order.

    Example:
        >>> rows = [{"condition": "plain"}, {"condition": "hits, plain"}, {"condition": "other"}]
        >>> [row["condition"] for row in conditions_in('"hits, plain" minus other above 0', rows)]
        ['hits, plain', 'other']
    """
    known = {str(row["condition"]): row for row in rows if row.get("condition")}
    bare = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    found = re.findall(rf'"([^"]*)"|(?<!\w)({bare})(?!\w)', criterion) if known else []
    return [
        known[name] for name in dict.fromkeys(quoted or plain for quoted, plain in found) if name in known
    ]


def _values(claim: JudgedClaim, rows: Sequence[Row]) -> Iterator[float]:
    """The two numbers of a claim: those that are told, or the means of the first two conditions of its criterion."""
    told = (claim.found, claim.control)
    if all(isinstance(value, int | float) for value in told):
        yield from map(_float, told)
    elif claim.found is not None:
        both = conditions_in(claim.criterion, rows)[:2]
        if len({row.get("unit") for row in both}) == 1:  # a slope or a correlation is of two units
            yield from (_float(row.get("mean")) for row in both)


def _of_mean(value: float, rows: Sequence[Row]) -> Row:
    return next((row for row in rows if math.isclose(_float(row.get("mean")), value, abs_tol=1e-12)), {})


def _said(row: Row, words: re.Match[str] | None, usual: str) -> str:
    """What a number is called: by its condition, else by the words of the criterion."""
    if row:
        return str(row["condition"])
    return words[1] if words else usual


def _more(told: Any) -> str:
    """What is told in words beside a number."""
    return f"; also told: {told}" if isinstance(told, str) else ""


def _rows(result: Result) -> Sequence[Row]:
    return result.findings.tables.get("Conditions", [])


def _unit(both: Sequence[ShownNumber]) -> str:
    return next((str(side.row["unit"]) for side in both if side.row.get("unit")), "")


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
