"""Verdicts on a circuit, each computed from the evidence of an evaluation file and nothing else.

``judge`` measures and saves the evidence; ``recompute_verdicts`` reads the file and decides again. There is one way
from evidence to verdict, and it is here: no model, no random number that is not named in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from workbench.statistics import (
    ROUNDING,
    Interval,
    TestResult,
    at_least,
    beats_random,
    chance_jaccard,
    edge_minimality,
    equivalence,
    independence,
    jaccard,
    mean_interval,
    ratio,
    ratio_interval,
)

FORMAT, VERSION = "circuit-workbench/evaluation", 1
LEAST_GROUP = 4  # pairs of one template below which its faithfulness is not judged


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Where the lines are drawn; saved with the evidence.

    Attributes:
        tolerance: How far from 1 a faithfulness may be.
        incompleteness: Largest difference of circuit and model without the same parts, as a share of the gap.
        least_effect: Smallest effect of a part that matters, as a share of the gap.
        epsilon: Of the equivalence test.
        share: Of random circuits or edges that must be beaten.
        jaccard: Least mean overlap of circuits found on resampled pairs.
    """

    tolerance: float = 0.2
    incompleteness: float = 0.2
    least_effect: float = 0.01
    epsilon: float = 0.1
    share: float = 0.9
    alpha: float = 0.05
    jaccard: float = 0.8
    correction: str = "holm"
    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One question about a circuit, what was measured, the criterion, and the answer.

    Attributes:
        holds: True, False, or None where the evidence does not decide (or is missing: ``measured`` says why).
        value: The number that was held against the criterion.
    """

    name: str
    holds: bool | None
    measured: str
    criterion: str
    value: float | None = None
    p: float | None = None
    n: int | None = None

    @property
    def words(self) -> str:
        return {True: "yes", False: "no", None: "open"}[self.holds]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.words}


def recompute_verdicts(evaluation: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Every verdict from the content of an evaluation file.

    Example:
        ``recompute_verdicts(load_evaluation(folder).document)`` equals the verdicts that were saved.
    """
    case = _Case(evaluation)
    missing = evaluation.get("missing", {})
    found = []
    for name, (needs, criterion, decide) in _VERDICTS.items():
        lacking = next((key for key in needs if key not in case.evidence), None)
        if lacking is None:
            found.append(decide(case, name, criterion(case.criteria)))
        else:
            why = missing.get(lacking, "not measured")
            found.append(Verdict(name=name, holds=None, measured=why, criterion=criterion(case.criteria)))
    return tuple(found)


def edge_tests(evaluation: Mapping[str, Any]) -> tuple[TestResult, ...]:
    """The minimality test of every edge that was tested; none at node level."""
    case = _Case(evaluation)
    return case.edge_tests() if "edges" in case.evidence else ()


class _Case:
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
        """Whether a mean squared difference is below another by more than rounding; equal ones are not."""
        small, large = (np.sqrt(np.asarray(x, dtype=float)) for x in (here, there))
        return small + self.rounding < large * (1 - ROUNDING)

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


def _faithful(case: _Case, name: str, criterion: str) -> Verdict:
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


def _equivalent(case: _Case, name: str, criterion: str) -> Verdict:
    test = equivalence(case.circuit, case.model, epsilon=case.criteria.epsilon, alpha=case.criteria.alpha)
    return Verdict(
        name=name,
        holds=not test.rejected,
        measured=f"above the model on {test.value:.1%} of pairs, p = {test.p:.3g}",
        criterion=criterion,
        value=test.value,
        p=test.p,
        n=test.n,
    )


def _complete(case: _Case, name: str, criterion: str) -> Verdict:
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


def _minimal(case: _Case, name: str, criterion: str) -> Verdict:
    gap, best = abs(case.gap), dict[str, tuple[float, bool]]()
    for row in case.evidence["minimality"]:
        change = np.array(row["kept"], dtype=float) - np.array(row["left_out"], dtype=float)
        found = mean_interval(change, draws=case.criteria.resamples, seed=case.criteria.seed)
        share = float(abs(change.mean()) / gap) if gap else 0.0
        clear = not found.low <= 0 <= found.high and share >= case.criteria.least_effect
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


def _edges(case: _Case, name: str, criterion: str) -> Verdict:
    tests, of = case.edge_tests(), case.evidence["edges"]["of"]
    idle = [t.name.removeprefix("minimality of ") for t in tests if t.rejected]
    tested = f"{len(tests)} of {of} edges tested" if len(tests) < of else f"all {of} edges tested"
    return Verdict(
        name=name,
        holds=not idle,
        measured=f"{tested}, {len(idle)} not needed" + (f": {shortened(idle)}" if idle else ""),
        criterion=criterion,
        value=float(len(idle)),
        p=min(t.corrected for t in tests),
        n=len(tests),
    )


def _independent(case: _Case, name: str, criterion: str) -> Verdict:
    c = case.criteria
    test = independence(case.complement, case.model, permutations=c.permutations, alpha=c.alpha, seed=c.seed)
    return Verdict(
        name=name,
        holds=not test.rejected,
        measured=f"HSIC {test.value:.3g} between the model without the circuit and the model, p = {test.p:.3g}",
        criterion=criterion,
        value=test.value,
        p=test.p,
        n=test.n,
    )


def _against_random(case: _Case, name: str, criterion: str, wins: np.ndarray, what: str) -> Verdict:
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


def _sufficient(case: _Case, name: str, criterion: str) -> Verdict:
    wins = case.clearly_less(case.distance(), case.evidence["random"]["distance"])
    return _against_random(case, name, criterion, wins, "closer to the model than")


def _necessary(case: _Case, name: str, criterion: str) -> Verdict:
    hurt = float(((case.complement - case.model) ** 2).mean())
    wins = case.clearly_less(case.evidence["random"]["knocked_out"], hurt)
    return _against_random(case, name, criterion, wins, "knocking it out changes the model more than")


def _better(case: _Case, name: str, criterion: str) -> Verdict:
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


def _matched(case: _Case, name: str, criterion: str) -> Verdict:
    drops = case.evidence["matched"]["draws"]
    if not drops:
        outside = "no layer has heads both in and outside the circuit"
        return Verdict(name=name, holds=None, measured=outside, criterion=criterion)
    own, other = (case.direction * np.array([d[key] for d in drops]) for key in ("drop", "control_drop"))
    wins = int((own > other).sum())
    return Verdict(
        name=name,
        holds=wins / len(drops) >= 1 - case.criteria.alpha,
        measured=f"a larger drop in {wins} of {len(drops)} draws of {drops[0]['n']} heads: "
        f"{own.mean():.3g} against {other.mean():.3g} {case.unit}",
        criterion=criterion,
        value=wins / len(drops),
        n=len(drops),
    )


def _ablations(case: _Case, name: str, criterion: str) -> Verdict:
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


def _templates(case: _Case, name: str, criterion: str) -> Verdict:
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


def _stable(case: _Case, name: str, criterion: str) -> Verdict:
    kept = case.evidence["stability"]
    value = mean_overlap(kept["sets"])
    sizes = [len(s) for s in kept["sets"]]
    chance = chance_jaccard(float(np.mean(sizes)), float(np.mean(sizes)), kept["candidates"])
    return Verdict(
        name=name,
        holds=value >= case.criteria.jaccard,
        measured=f"mean Jaccard {value:.2f} of {len(sizes)} circuits found on resampled pairs, by chance {chance:.2f}",
        criterion=criterion,
        value=value,
        n=len(sizes),
    )


def mean_overlap(sets: Sequence[Sequence[int]]) -> float:
    """Mean Jaccard of every two of the sets."""
    made = [set(s) for s in sets]
    found = [jaccard(a, b) for a, b in combinations(made, 2)]
    return float(np.mean(found)) if found else float("nan")


_Decide = Callable[[_Case, str, str], Verdict]
_VERDICTS: dict[str, tuple[tuple[str, ...], Callable[[Criteria], str], _Decide]] = {
    "faithful": (
        ("scores",),
        lambda c: f"faithfulness within {c.tolerance:.0%} of the full model",
        _faithful,
    ),
    "equivalent": (
        ("scores",),
        lambda c: f"as often above as below the model: p >= {c.alpha:g}, epsilon {c.epsilon:g}",
        _equivalent,
    ),
    "complete": (
        ("completeness",),
        lambda c: (
            f"without the same parts, circuit and model differ by at most {c.incompleteness:.0%} of the gap"
        ),
        _complete,
    ),
    "minimal": (
        ("minimality",),
        lambda c: f"every node's effect is at least {c.least_effect:.0%} of the gap and clear of zero",
        _minimal,
    ),
    "no superfluous edge": (
        ("edges",),
        lambda c: f"no edge that random edges match, p >= {c.alpha:g} after {c.correction}",
        _edges,
    ),
    "independent": (
        ("scores",),
        lambda c: f"the model without it says nothing of the model: p >= {c.alpha:g}",
        _independent,
    ),
    "sufficient": (
        ("random",),
        lambda c: f"more faithful than at least {c.share:.0%} of random circuits of its size",
        _sufficient,
    ),
    "partially necessary": (
        ("random",),
        lambda c: f"its loss hurts more than that of at least {c.share:.0%} of random circuits of its size",
        _necessary,
    ),
    "better than random": (
        ("random",),
        lambda c: f"rank among random circuits of its size: p < {c.alpha:g}",
        _better,
    ),
    "heads matter more than others": (
        ("matched",),
        lambda c: (
            f"knocked out, they cost more than as many other heads of their layers in {1 - c.alpha:.0%} of draws"
        ),
        _matched,
    ),
    "robust to the ablation": (
        ("ablations",),
        lambda c: f"faithfulness within {c.tolerance:.0%} of the full model under every ablation",
        _ablations,
    ),
    "robust to the template": (
        ("scores",),
        lambda c: f"faithfulness within {c.tolerance:.0%} of the full model in every template",
        _templates,
    ),
    "stable": (("stability",), lambda c: f"mean Jaccard over bootstraps at least {c.jaccard:g}", _stable),
}
