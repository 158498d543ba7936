"""From evidence to answers: one function per question, each from the numbers of an evaluation file alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import numpy as np

from workbench.circuits.specificity import Specificity
from workbench.circuits.verdicts.criteria import Verdict
from workbench.circuits.verdicts.judged_case import Case, within
from workbench.circuits.verdicts.statistics import (
    CORRECTIONS,
    ROUNDING,
    Interval,
    at_least,
    at_most,
    beats_random,
    equivalence,
    equivalence_p,
    independence,
    ratio,
)
from workbench.core.stats.agreement import chance_jaccard, mean_jaccard
from workbench.core.stats.sign_flips import sign_flips

LEAST_GROUP = 4  # pairs of one template below which its faithfulness is not shown


def _together(answers: Sequence[bool | None]) -> bool | None:
    """All must hold; one that does not decides."""
    return False if False in answers else None if None in answers or not answers else True


def _percent(interval: Interval) -> str:
    return interval.shown(".1%") if interval.reason else f"95 % interval {interval.shown('.1%')}"


def faithful(case: Case, name: str, criterion: str) -> Verdict:
    value = ratio(case.circuit, case.model, case.nothing)
    if not np.isfinite(value):
        gapless = "not defined: the metric has no gap between the model and nothing"
        return Verdict(name=name, holds=None, measured=gapless, criterion=criterion, n=len(case.model))
    found = case.interval(case.circuit, case.model, case.nothing)
    return Verdict(
        name=name,
        holds=case.near_one(found),
        measured=f"faithfulness {value:.1%} of what lies between nothing and the model, {_percent(found)}"
        f"{case.too_few()}",
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
    c, model = case.criteria, case.independently(case.model)
    n, what = len(model), "pairs" if len(model) == len(case.model) else "groups of pairs"
    test = equivalence(case.independently(case.circuit), model, epsilon=c.epsilon, alpha=c.alpha)
    holds, blind = _unless_blind(test.rejected, equivalence_p(n, n, epsilon=c.epsilon), c.alpha)
    return Verdict(
        name=name,
        holds=holds,
        measured=f"above the model on {test.value:.1%} of {n} {what}, p = {test.p:.3g}{blind}",
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
    judged = np.setdiff1d(np.arange(len(case.model)), row["searched"])
    found = case.mean_interval(change, judged)
    low, high = sorted((abs(found.low), abs(found.high)))
    if found.low < 0 < found.high:
        low = 0.0
    bounds = found if found.reason else Interval(low / gap, high / gap, found.stderr / gap)
    share = float(abs(change.mean()) / gap)
    return Verdict(
        name=name,
        holds=within(bounds, 0.0, case.criteria.incompleteness) if case.enough(judged) else None,
        measured=f"worst of {len(case.evidence['completeness'])} sets: {share:.1%} of the gap "
        f"without {row['name']} ({shortened(row['removed'])}), {_percent(bounds)}{case.too_few(judged)}",
        criterion=criterion,
        value=share,
        n=len(change),
    )


def shortened(parts: Sequence[str], most: int = 4) -> str:
    """Return the first few of a list of addresses."""
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def minimal(case: Case, name: str, criterion: str) -> Verdict:
    """Return every node has an effect that is clear of zero, all nodes tested together, and not too small."""
    rows, gap, c = case.evidence["minimality"], abs(case.gap), case.criteria
    changes = np.array([np.subtract(row["kept"], row["left_out"], dtype=float) for row in rows])
    shares = np.abs(changes.mean(1)) / gap if gap else np.zeros(len(rows))
    large = shares >= c.least_effect
    clear, p, blind = _CLEAR[c.node_correction](case, changes)
    best: dict[str, tuple[bool, float, bool, float]] = {}
    for i, row in enumerate(rows):
        own = (bool(clear[i] and large[i]), float(shares[i]), bool(large[i]), -float(p[i]))
        best[row["part"]] = max(best.get(row["part"], (False, 0.0, False, -1.0)), own)
    idle = [part for part, (matters, *_) in best.items() if not matters]
    # what is large and not clear is neither shown to matter nor shown not to, unless the pairs are many
    unsure = [part for part in idle if best[part][2] and not case.enough()] if c.rules > 1 else []
    weakest = min(best, key=lambda part: best[part][:2])
    words = (
        f"without a clear effect: {shortened(idle)}"
        if idle
        else f"weakest {weakest}, {best[weakest][1]:.1%} of the gap"
    )
    few = blind or (case.too_few() if unsure else "")
    return Verdict(
        name=name,
        holds=None if blind or (unsure and len(unsure) == len(idle)) else not idle,
        measured=f"{len(best) - len(idle)} of {len(best)} nodes matter; {words}{few}",
        criterion=criterion,
        value=(len(best) - len(idle)) / len(best),
        p=None if c.rules == 1 else max(-own[3] for own in best.values()),
        n=len(case.model),
    )


def _clear_by_interval(case: Case, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Each change by itself: its interval excludes zero. No p, and no correction for their number."""
    found = [case.mean_interval(change) for change in changes]
    clear = [bool(np.isfinite(i.low) and np.isfinite(i.high) and not i.low <= 0 <= i.high) for i in found]
    return np.array(clear, dtype=bool), np.ones(len(changes)), ""


def _clear_by_flips(case: Case, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """All changes together: p of the largest of them under sign flips of independent pairs (max-T)."""
    c = case.criteria
    real = np.where(np.abs(changes) <= case.rounding, 0.0, changes)
    found = sign_flips(real, case.clusters, draws=c.flips, alpha=c.alpha, seed=c.seed)
    least = found.resolution.smallest
    blind = "" if least < c.alpha else f"; too few to tell: p cannot be below {least:.3g}"
    return found.family < c.alpha, found.family, blind


_CLEAR = {"none": _clear_by_interval, "max-T": _clear_by_flips}


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
    complement, model = case.independently(case.complement), case.independently(case.model)
    test = independence(complement, model, permutations=c.permutations, alpha=c.alpha, seed=c.seed)
    # n pairs have n! orders, and one of them is the order seen
    least = max(1 / factorial(len(model)), 1 / (1 + c.permutations))
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
        measured=", ".join(words) + case.too_few(),
        criterion=criterion,
        value=max(finite) if finite else None,
        n=len(case.model),
    )


def templates(case: Case, name: str, criterion: str) -> Verdict:
    found: dict[str, tuple[float, bool | None]] = {}
    groups, least = np.array(case.groups), max(LEAST_GROUP, case.criteria.least_pairs)
    for group in dict.fromkeys(case.groups):
        rows = np.flatnonzero(groups == group)
        if case.independent(rows) >= least:
            own = case.circuit[rows], case.model[rows], case.nothing[rows]
            around = case.interval(case.circuit, case.model, case.nothing, rows)
            found[group] = ratio(*own), case.near_one(around, rows)
    if len(found) < 2:
        few = f"fewer than two templates with {least} pairs or more"
        return Verdict(name=name, holds=None, measured=few, criterion=criterion)
    worst = max(found, key=lambda group: abs(1 - found[group][0]))
    small = len(set(case.groups)) - len(found)
    left = f"; {small} templates with fewer than {least} pairs left out" if small else ""
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


def specific(case: Case, name: str, criterion: str) -> Verdict:
    found, c = Specificity.from_dict(case.evidence["specificity"]), case.criteria
    if not np.isfinite(found.value):
        lost = "not defined: a task has no gap between the model and everything ablated"
        return Verdict(name=name, holds=None, measured=lost, criterion=criterion)
    interval = found.interval(draws=c.resamples, seed=c.seed)
    wins = int((found.value - found.random > ROUNDING).sum())
    beaten = len(found.sizes) > 0 and wins >= c.share * len(found.sizes)
    few = (
        ""
        if found.independent >= c.least_pairs
        else f"; too few to tell: {found.independent} independent pairs"
    )
    clear = None if few or not np.isfinite(interval.low) else _above_zero(interval)
    return Verdict(
        name=name,
        holds=_together([clear, beaten]) if clear else clear,
        measured=f"{found.sentence(interval)}; larger than that of {wins} of {len(found.sizes)}{few}",
        criterion=criterion,
        value=found.value,
        n=found.independent,
    )


def _above_zero(interval: Interval) -> bool | None:
    """Say whether an interval is above 0 (True), not above it (False), or across (None)."""
    return True if interval.low > 0 else False if interval.high <= 0 else None
