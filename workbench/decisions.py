"""From evidence to answers: one function per question, each from the numbers of an evaluation file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import factorial
from typing import Any

import numpy as np

from workbench.agreement import chance_jaccard, mean_jaccard
from workbench.criteria import Criteria, Verdict
from workbench.statistics import (
    CORRECTIONS,
    ROUNDING,
    Interval,
    TestResult,
    at_least,
    at_most,
    beats_random,
    clearly_less,
    edge_minimality,
    equivalence,
    equivalence_p,
    independence,
    mean_interval,
    ratio,
    ratio_interval,
)

LEAST_GROUP = 4  # pairs of one template below which its faithfulness is not judged


class Case:
    """The evidence with its numbers as arrays."""

    def __init__(self, evaluation: Mapping[str, Any]) -> None:
        self.evidence: Mapping[str, Any] = evaluation["evidence"]
        self.criteria = Criteria(**evaluation["criteria"])
        self.groups: Sequence[str] = evaluation["pairs"]["groups"]
        self.direction: int = evaluation["direction"]
        self.unit: str = evaluation["unit"]
        scores = self.evidence["scores"]
        self.model, self.circuit, self.nothing, self.complement = (
            np.array(scores[name], dtype=float) for name in ("model", "circuit", "nothing", "complement")
        )

    @property
    def gap(self) -> float:
        return float(self.model.mean() - self.nothing.mean())

    @property
    def rounding(self) -> float:
        """Differences of scores below this are float32 in another order."""
        return float(ROUNDING * np.abs(self.model).max())

    def clearly_less(self, here: float | Sequence[float], there: float | Sequence[float]) -> np.ndarray:
        return clearly_less(here, there, self.rounding)

    def interval(self, circuit: np.ndarray, full: np.ndarray, empty: np.ndarray) -> Interval:
        return ratio_interval(circuit, full, empty, draws=self.criteria.resamples, seed=self.criteria.seed)

    def near_one(self, interval: Interval) -> bool | None:
        return within(interval, 1 - self.criteria.tolerance, 1 + self.criteria.tolerance)

    def distance(self) -> float:
        return float(((self.circuit - self.model) ** 2).mean())

    def edge_tests(self) -> tuple[TestResult, ...]:
        edges, c = self.evidence["edges"], self.criteria
        changes = {
            row["edge"]: float(((self.circuit - np.array(row["left_out"], dtype=float)) ** 2).mean())
            for row in edges["left_out"]
        }
        return edge_minimality(
            changes,
            edges["reference"],
            floor=self.rounding,
            share=c.share,
            correction=c.correction,
            alpha=c.alpha,
            seed=edges["seed"],
        )


def within(interval: Interval, low: float, high: float) -> bool | None:
    """Whether an interval lies inside bounds (True), outside (False), or across one or is not defined (None)."""
    if not np.isfinite(interval.low):
        return None
    if low <= interval.low and interval.high <= high:
        return True
    return False if interval.high < low or interval.low > high else None


def _together(answers: Sequence[bool | None]) -> bool | None:
    """All must hold; one that does not decides."""
    return False if False in answers else None if None in answers or not answers else True


def _percent(interval: Interval) -> str:
    return f"95 % interval {interval.low:.1%} to {interval.high:.1%}"


def faithful(case: Case, name: str, criterion: str) -> Verdict:
    value = ratio(case.circuit, case.model, case.nothing)
    if not np.isfinite(value):
        gapless = "not defined: the metric has no gap between the model and nothing"
        return Verdict(name=name, holds=None, measured=gapless, criterion=criterion, n=len(case.model))
    found = case.interval(case.circuit, case.model, case.nothing)
    return Verdict(
        name=name,
        holds=case.near_one(found),
        measured=f"faithfulness {value:.1%}, {_percent(found)}",
        criterion=criterion,
        value=value,
        n=len(case.model),
    )


def _unless_blind(rejected: bool, least: float, alpha: float) -> tuple[bool | None, str]:
    """What a test that passes by not rejecting says: nothing, where even the worst case could not be rejected.

    Args:
        least: The smallest ``p`` that the test can have with so many pairs or draws, corrected.
    """
    if rejected or least < alpha:
        return not rejected, ""
    return None, f"; too few to tell: p cannot be below {least:.3g}"


def equivalent(case: Case, name: str, criterion: str) -> Verdict:
    c, n = case.criteria, len(case.model)
    test = equivalence(case.circuit, case.model, epsilon=c.epsilon, alpha=c.alpha)
    holds, blind = _unless_blind(test.rejected, equivalence_p(n, n, epsilon=c.epsilon), c.alpha)
    return Verdict(
        name=name,
        holds=holds,
        measured=f"above the model on {test.value:.1%} of {n} pairs, p = {test.p:.3g}{blind}",
        criterion=criterion,
        value=test.value,
        p=test.p,
        n=test.n,
    )


def complete(case: Case, name: str, criterion: str) -> Verdict:
    gap, worst = abs(case.gap), None
    for row in case.evidence["completeness"]:
        judged = np.setdiff1d(np.arange(len(case.model)), row["searched"])
        change = (np.array(row["circuit"], dtype=float) - np.array(row["model"], dtype=float))[judged]
        if worst is None or abs(change.mean()) > abs(worst[1].mean()):
            worst = row, change
    if worst is None or gap <= 1e-6 * np.abs(case.model).max():
        nothing = "no set was taken away, or there is no gap to compare with"
        return Verdict(name=name, holds=None, measured=nothing, criterion=criterion)
    row, change = worst
    found = mean_interval(change, draws=case.criteria.resamples, seed=case.criteria.seed)
    low, high = sorted((abs(found.low), abs(found.high)))
    if found.low < 0 < found.high:
        low = 0.0
    bounds = Interval(low / gap, high / gap, found.stderr / gap)
    share = float(abs(change.mean()) / gap)
    return Verdict(
        name=name,
        holds=within(bounds, 0.0, case.criteria.incompleteness),
        measured=f"worst of {len(case.evidence['completeness'])} sets: {share:.1%} of the gap "
        f"without {row['name']} ({shortened(row['removed'])}), {_percent(bounds)}",
        criterion=criterion,
        value=share,
        n=len(change),
    )


def shortened(parts: Sequence[str], most: int = 4) -> str:
    """The first few of a list of addresses."""
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def minimal(case: Case, name: str, criterion: str) -> Verdict:
    gap, best = abs(case.gap), dict[str, tuple[float, bool]]()
    for row in case.evidence["minimality"]:
        change = np.array(row["kept"], dtype=float) - np.array(row["left_out"], dtype=float)
        found = mean_interval(change, draws=case.criteria.resamples, seed=case.criteria.seed)
        share = float(abs(change.mean()) / gap) if gap else 0.0
        known = bool(np.isfinite(found.low) and np.isfinite(found.high))
        clear = known and not found.low <= 0 <= found.high and share >= case.criteria.least_effect
        best[row["part"]] = max(
            best.get(row["part"], (0.0, False)), (share, clear), key=lambda x: (x[1], x[0])
        )
    idle = [part for part, (_, clear) in best.items() if not clear]
    weakest = min(best, key=lambda part: best[part])
    words = (
        f"without effect: {shortened(idle)}"
        if idle
        else f"weakest {weakest}, {best[weakest][0]:.1%} of the gap"
    )
    return Verdict(
        name=name,
        holds=not idle,
        measured=f"{len(best) - len(idle)} of {len(best)} nodes matter; {words}",
        criterion=criterion,
        value=(len(best) - len(idle)) / len(best),
        n=len(case.model),
    )


def edges(case: Case, name: str, criterion: str) -> Verdict:
    tests, of = case.edge_tests(), case.evidence["edges"]["of"]
    idle = [t.name.removeprefix("minimality of ") for t in tests if t.rejected]
    tested = f"{len(tests)} of {of} edges tested" if len(tests) < of else f"all {of} edges tested"
    c, draws = case.criteria, len(case.evidence["edges"]["reference"])
    least = float(CORRECTIONS[c.correction]([at_most(0, draws, c.share)] * len(tests))[0])
    holds, blind = _unless_blind(bool(idle), least, c.alpha)
    named = f": {shortened(idle)}" if idle else ""
    return Verdict(
        name=name,
        holds=holds,
        measured=f"{tested} against {draws} random ones, {len(idle)} not needed{named}{blind}",
        criterion=criterion,
        value=float(len(idle)),
        p=min(t.corrected for t in tests),
        n=len(tests),
    )


def independent(case: Case, name: str, criterion: str) -> Verdict:
    c = case.criteria
    test = independence(case.complement, case.model, permutations=c.permutations, alpha=c.alpha, seed=c.seed)
    # n pairs have n! orders, and one of them is the order seen
    least = max(1 / factorial(len(case.model)), 1 / (1 + c.permutations))
    holds, blind = _unless_blind(test.rejected, least, c.alpha)
    between = "between the model without the circuit and the model"
    return Verdict(
        name=name,
        holds=holds,
        measured=f"HSIC {test.value:.3g} {between}, p = {test.p:.3g}{blind}",
        criterion=criterion,
        value=test.value,
        p=test.p,
        n=test.n,
    )


def _against_random(case: Case, name: str, criterion: str, wins: np.ndarray, what: str) -> Verdict:
    count, n, share = int(wins.sum()), len(wins), case.criteria.share
    test, more = (
        beats_random(name, count, n, share=share, alpha=case.criteria.alpha),
        at_least(count, n, share),
    )
    shown = {
        "yes": f"more than {share:.0%} is shown, p = {more:.3g}",
        "no": f"fewer than {share:.0%} is shown, p = {test.p:.3g}",
    }.get(test.verdict, f"neither more nor fewer than {share:.0%} is shown, p = {more:.3g} and {test.p:.3g}")
    return Verdict(
        name=name,
        holds={"yes": True, "no": False}.get(test.verdict),
        measured=f"{what} {count} of {n} random circuits: {shown}",
        criterion=criterion,
        value=test.value,
        p=test.p,
        n=test.n,
    )


def sufficient(case: Case, name: str, criterion: str) -> Verdict:
    wins = case.clearly_less(case.distance(), case.evidence["random"]["distance"])
    return _against_random(case, name, criterion, wins, "closer to the model than")


def necessary(case: Case, name: str, criterion: str) -> Verdict:
    hurt = float(((case.complement - case.model) ** 2).mean())
    wins = case.clearly_less(case.evidence["random"]["knocked_out"], hurt)
    return _against_random(case, name, criterion, wins, "knocking it out changes the model more than")


def better(case: Case, name: str, criterion: str) -> Verdict:
    own, drawn = ratio(case.circuit, case.model, case.nothing), np.array(case.evidence["random"]["metric"])
    if not np.isfinite(own):
        return Verdict(name=name, holds=None, measured="faithfulness is not defined", criterion=criterion)
    others = (drawn - case.nothing.mean()) / case.gap
    as_good = int((np.abs(1 - others) <= abs(1 - own) + case.rounding / abs(case.gap)).sum())
    p = (1 + as_good) / (1 + len(drawn))
    enough = 1 / (1 + len(drawn)) < case.criteria.alpha
    return Verdict(
        name=name,
        holds=p < case.criteria.alpha if enough else None,
        measured=f"{as_good} of {len(drawn)} random circuits as faithful (they keep {others.mean():.1%} on average)",
        criterion=criterion,
        value=float(others.mean()),
        p=p,
        n=len(drawn),
    )


def matched(case: Case, name: str, criterion: str) -> Verdict:
    drops = case.evidence["matched"]["draws"]
    if not drops:
        outside = "no layer has heads both in and outside the circuit"
        return Verdict(name=name, holds=None, measured=outside, criterion=criterion)
    own, other = (case.direction * np.array([d[key] for d in drops]) for key in ("drop", "control_drop"))
    wins, alpha = int((own > other).sum()), case.criteria.alpha
    enough = len(drops) * alpha > 1 - 1e-9  # fewer than 20 cannot tell 95 % from more or less
    return Verdict(
        name=name,
        holds=wins / len(drops) >= 1 - alpha if enough else None,
        measured=f"a larger drop in {wins} of {len(drops)} draws of {drops[0]['n']} heads: "
        f"{own.mean():.3g} against {other.mean():.3g} {case.unit}" + ("" if enough else "; too few to tell"),
        criterion=criterion,
        value=wins / len(drops),
        n=len(drops),
    )


def ablations(case: Case, name: str, criterion: str) -> Verdict:
    answers, words, values = [], [], []
    for ablation, row in case.evidence["ablations"].items():
        circuit, nothing = np.array(row["circuit"], dtype=float), np.array(row["nothing"], dtype=float)
        value = ratio(circuit, case.model, nothing)
        answers.append(case.near_one(case.interval(circuit, case.model, nothing)))
        words.append(f"{ablation} {value:.1%}" if np.isfinite(value) else f"{ablation} not defined")
        values.append(abs(1 - value))
    finite = [v for v in values if np.isfinite(v)]
    return Verdict(
        name=name,
        holds=_together(answers),
        measured=", ".join(words),
        criterion=criterion,
        value=max(finite) if finite else None,
        n=len(case.model),
    )


def templates(case: Case, name: str, criterion: str) -> Verdict:
    found: dict[str, tuple[float, bool | None]] = {}
    groups = np.array(case.groups)
    for group in dict.fromkeys(case.groups):
        rows = groups == group
        if rows.sum() >= LEAST_GROUP:
            own = case.circuit[rows], case.model[rows], case.nothing[rows]
            found[group] = ratio(*own), case.near_one(case.interval(*own))
    if len(found) < 2:
        few = f"fewer than two templates with {LEAST_GROUP} pairs or more"
        return Verdict(name=name, holds=None, measured=few, criterion=criterion)
    worst = max(found, key=lambda group: abs(1 - found[group][0]))
    small = len(set(case.groups)) - len(found)
    left = f"; {small} templates with fewer than {LEAST_GROUP} pairs left out" if small else ""
    return Verdict(
        name=name,
        holds=_together([answer for _, answer in found.values()]),
        measured=f"{len(found)} templates, the worst {found[worst][0]:.1%} ({worst or 'unnamed'}){left}",
        criterion=criterion,
        value=found[worst][0],
        n=len(found),
    )


def stable(case: Case, name: str, criterion: str) -> Verdict:
    kept = case.evidence["stability"]
    value = mean_jaccard([set(s) for s in kept["sets"]])
    sizes = [len(s) for s in kept["sets"]]
    if not np.isfinite(value):
        few = f"not defined: {len(sizes)} circuits found on resampled pairs, {sizes.count(0)} of them empty"
        return Verdict(name=name, holds=None, measured=few, criterion=criterion, n=len(sizes))
    chance = chance_jaccard(float(np.mean(sizes)), float(np.mean(sizes)), kept["candidates"])
    note = f"; {kept['note']}" if kept.get("note") else ""
    return Verdict(
        name=name,
        holds=value >= case.criteria.jaccard,
        measured=f"mean Jaccard {value:.2f} of {len(sizes)} circuits found on resampled pairs, "
        f"by chance {chance:.2f}{note}",
        criterion=criterion,
        value=value,
        n=len(sizes),
    )
