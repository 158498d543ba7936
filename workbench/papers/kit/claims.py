"""A claim as data: the paper's sentence and number, the criterion and its reason, what it needs to be tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.core.claims import JudgedClaim, judge, source_of, untestable
from workbench.core.stats.multiplicity import holm
from workbench.papers.kit.conditions import Beside, Conditions
from workbench.papers.kit.criteria import ALPHA, Criterion, Outcome, fact

Told = str | float | None | Callable[[Conditions], Any]
MEANS = "as the criterion has it"


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a setting must have for a claim to be tested in it; never the claim's own quantity.

    Attributes:
        met: Whether it has.
        why: What is said where it has not.
        keeps: Of ``found``, ``control`` and ``n``, what is told all the same.
    """

    met: Callable[[Conditions], Any]
    why: str | Callable[[Conditions], str]
    keeps: tuple[str, ...] = ()


def needs(
    met: Criterion | Callable[[Conditions], Any], why: str | Callable[[Conditions], str], *keeps: str
) -> Need:
    """Make a need of a criterion, or of any function of what was measured."""
    if isinstance(met, Criterion):
        return Need(met=lambda c: met(c).holds, why=why, keeps=keeps)
    return Need(met=met, why=why, keeps=keeps)


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Attributes:
        says: The claim.
        by: What decides.
        criterion: The sentence, where that of the algebra is not plain enough.
        paper: The paper's number or word.
        why: Why this criterion and no other.
        where: The place in the paper; "a control of ours" and the like are not the paper's.
        needs: In order; the first that is not met is the reason why the claim cannot be tested.
        family: Claims of one family are corrected together (Holm): their p values are of one question.
        found, control, n, model: What is told, where it is not the means and the number of items of the criterion's
            conditions, or what was told with its number: a value, nothing, a text with the ``{names}`` of what was
            measured (``Conditions.say``), or a function of it. So are paper, why, criterion, the reason of a need.
        models: How many independent models (checkpoints, seeds of training) it was judged on. One: the verdict is
            of this model. None: it is of no model.
        alone: It has its own needs and none of those that all claims of the paper have.
    """

    says: str
    by: Criterion
    criterion: str | Callable[[Conditions], str] = ""
    paper: Told = None
    why: Told = ""
    where: str = ""
    needs: Sequence[Need] = ()
    family: str = ""
    found: Told = MEANS
    control: Told = MEANS
    n: Told = MEANS
    model: Told = ""
    models: Told = 1
    alone: bool = False

    def words_of(self, c: Conditions) -> str:
        """The sentence of the criterion."""
        corrected = f", corrected for all claims about {self.family} (Holm)" if self.family else ""
        return str(_told(self.criterion, c)) or self.by.words + corrected

    def found_of(self, c: Conditions) -> Any:
        if self.found != MEANS:
            return _told(self.found, c)
        return c.mean(self.by.name) if self.by.name else None

    def control_of(self, c: Conditions) -> Any:
        if self.control != MEANS:
            return _told(self.control, c)
        beside = c.beside.get(self.by.name, Beside()).control
        return _told(beside, c) if beside is not None else c.mean(self.by.over) if self.by.over else None

    def n_of(self, c: Conditions) -> int | None:
        if self.n != MEANS:
            found = _told(self.n, c)
            return None if found is None else int(found)
        first = next((name for name in (self.by.name, *self.by.reads) if name in c), None)
        return c.beside.get(self.by.name, Beside()).n if first is None else c.n(first)

    def about(self, outcome: Outcome) -> Claim:
        """The claim as it is told: of several rules, about the conditions of the one that decided."""
        if not outcome.name or (outcome.name, outcome.over) == (self.by.name, self.by.over):
            return self
        return replace(self, by=replace(self.by, name=outcome.name, over=outcome.over))

    def scope_of(self, c: Conditions) -> str:
        """How far a verdict reaches."""
        n, other = _told(self.models, c), _told(self.model, c)
        if n == 1:
            return f"on {other}" if other else "on this model"
        return f"on {int(n)} models" if n else ""


def _names(value: Told) -> bool:
    """Whether something names what has to be measured."""
    return callable(value) or "{" in str(value)


def _told(value: Told, c: Conditions) -> Any:
    if isinstance(value, str):
        return c.say(value) if "{" in value else value
    return value(c) if callable(value) else value


def from_to(plain: str, edited: str) -> str:
    """Return a text for what is found: two means, and their difference with its interval.

    Example:
        >>> c = Conditions()
        >>> c["plain"], c["edited"] = np.zeros(8), np.array([1.0, 0.0] * 4)
        >>> c.say(from_to("plain", "edited"))
        '0.00 to 0.50; +0.50 [+0.12, +0.88]'
    """
    gain = f"{edited} minus {plain}"
    return f"{{{plain}:.2f}} to {{{edited}:.2f}}; {{{gain}:+.2f}} [{{around of {gain}:+.2f}}]"


def untried(
    says: str,
    criterion: str,
    lacks: str,
    *,
    paper: Told = None,
    why: str = "as in the paper",
    where: str = "",
) -> Claim:
    """Make a claim that no setting here can test, saying what ``lacks``."""
    never = fact("not measured", lambda c: False)
    lack = needs(never, lacks)
    return Claim(says, never, criterion, paper=paper, why=why, where=where, needs=[lack], alone=True)


def judge_all(
    claims: Mapping[str, Claim], c: Conditions, *, authors: str = "", common: Sequence[Need] = ()
) -> tuple[JudgedClaim, ...]:
    """Every claim with its verdict, in order.

    The p values of a family's claims that can be tested are corrected together. What is found, its interval or its p
    may turn out not to be a number, or no p could have been small enough: such a claim cannot be tested either.

    Args:
        common: What every claim needs, before its own needs.
    """
    lacking = {name: _lacking(claim, common, c) for name, claim in claims.items()}
    outcomes = {name: claims[name].by(c) for name, need in lacking.items() if need is None}
    lacking |= {name: _undecided(claims[name], outcome, c) for name, outcome in outcomes.items()}
    outcomes = {name: outcome for name, outcome in outcomes.items() if lacking[name] is None}
    ps = {name: outcome.p for name, outcome in outcomes.items() if outcome.p is not None}
    for family in {claims[name].family for name in ps} - {""}:
        own = [name for name in ps if claims[name].family == family]
        ps |= dict(zip(own, map(float, holm([ps[name] for name in own])), strict=True))
    return tuple(
        _judged(claim, c, authors, replace(outcomes[name], p=ps.get(name)))
        if (need := lacking[name]) is None
        else _open(claim, c, authors, need)
        for name, claim in claims.items()
    )


def _judged(claim: Claim, c: Conditions, authors: str, outcome: Outcome) -> JudgedClaim:
    """A claim with the numbers that decided it; those that the criterion computed are told where it has no others."""
    claim = claim.about(outcome)
    told = {what: getattr(claim, f"{what}_of")(c) for what in ("found", "control", "n", "scope")}
    if told["found"] is None and claim.found == MEANS:
        told["found"] = outcome.found
    beside = c.beside.get(claim.by.name, Beside())
    around = (
        outcome.interval or beside.interval or (c.interval(claim.by.name) if claim.by.name in c else None)
    )
    ends = {} if around is None or around.reason else {"low": float(around.low), "high": float(around.high)}
    fixed = {
        "paper": _told(claim.paper, c),
        "reason": _told(claim.why, c),
        "source": source_of(authors, claim.where),
        "model": _told(claim.model, c),
    }
    holds = outcome.holds and (0.0 if outcome.p is None else outcome.p) < ALPHA
    p = beside.p if outcome.p is None or not outcome.tells_p else outcome.p
    decided = {"p": p, "difference": outcome.difference, **ends}
    return judge(claim.says, claim.words_of(c), holds, **told, **fixed, **decided)


def _open(claim: Claim, c: Conditions, authors: str, need: Need) -> JudgedClaim:
    """A claim that cannot be tested: only what does not have to be measured is told, and what the need keeps."""
    told = {what: getattr(claim, f"{what}_of")(c) for what in need.keeps}
    reason = claim.why if isinstance(claim.why, str) and "{" not in claim.why else ""
    paper, model = (
        None if c.why and _names(value) else _told(value, c) for value in (claim.paper, claim.model)
    )
    fixed = {
        "paper": paper,
        "reason": reason,
        "source": source_of(authors, claim.where),
        "model": model or "",
    }
    why = str(_told(need.why, c))
    return untestable(claim.says, claim.words_of(c), why, **told, **fixed)


def _undecided(claim: Claim, outcome: Outcome, c: Conditions) -> Need | None:
    """Why an outcome decides nothing, as a need that is not met."""
    found = claim.found_of(c)
    missing = isinstance(found, float | np.floating) and not np.isfinite(found)
    why = outcome.lacks
    if outcome.p is not None and not np.isfinite(outcome.p):
        why = why or "its p value is not defined here"
    if missing:
        why = why or "what it is about is not a number here"
    if not why:
        return None
    keeps = ("control", "n") if missing else ("found", "control", "n")
    return Need(met=lambda c: False, why=lambda c: why, keeps=keeps)


def _lacking(claim: Claim, common: Sequence[Need], c: Conditions) -> Need | None:
    """The first need that is not met; that its criterion reads what was not measured is one."""
    if c.why:
        return Need(met=lambda c: False, why=lambda c: c.why)
    asked = claim.needs if claim.alone else (*common, *claim.needs)
    unmet = next((need for need in asked if not need.met(c)), None)
    gone = next((c.lacking[name] for name in claim.by.reads if name in c.lacking), "")
    return Need(met=lambda c: False, why=lambda c: gone) if unmet is None and gone else unmet
