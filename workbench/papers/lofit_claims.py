"""What is claimed of LoFiT, and the criteria, fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import factorial

import numpy as np

from workbench.circuits.verdicts.statistics import CHANGE, holm, mean_interval
from workbench.core.claims import JudgedClaim, judge, untestable
from workbench.core.stats.agreement import jaccard
from workbench.edits.lofit import Localised, all_parameters
from workbench.papers.kinds import Setting

# Criteria, fixed before anything was measured.
BADLY = 0.5  # accuracy before, above which there is little to repair
ITI_GAIN = 0.1  # a third of the paper's gain of inference-time intervention
OVER = "interval above zero (places of words resampled)"
COMPARABLE = 0.05  # accuracy that LoFiT may lack to low-rank fine-tuning
FEWER = 20.0  # times fewer trained numbers, the lower end of the paper's range


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One task's numbers.

    Attributes:
        localised: The heads chosen, once for each of ``SEEDS``; the first is used.
        places: Of the words that the test prompts ask for.
        right: (condition, heads) -> whether each test prompt was answered rightly; of several random choices the mean.
        loss: The same, mean loss in nats.
        parameters: (condition, heads) -> trained numbers.
    """

    localised: tuple[Localised, ...]
    places: np.ndarray
    probes: np.ndarray
    iti: tuple[int, float]
    right: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    loss: dict[tuple[str, int], float] = field(default_factory=dict)
    parameters: dict[tuple[str, int], int] = field(default_factory=dict)


def over_all(found: Mapping[str, Measured], name: str, k: int) -> np.ndarray:
    """One value per test prompt of all tasks."""
    return np.concatenate([one.right[name, k] for one in found.values()])


def by_place(
    found: Mapping[str, Measured], here: tuple[str, int], there: tuple[str, int] | None
) -> np.ndarray:
    """Mean difference of two conditions for each place of the test words, over all prompts and tasks that ask it."""
    difference = over_all(found, *here) - (over_all(found, *there) if there else 0.0)
    places = np.concatenate([one.places for one in found.values()])
    return np.array([difference[places == place].mean() for place in np.unique(places)])


def claims_of(setting: Setting, found: Mapping[str, Measured]) -> tuple[JudgedClaim, ...]:
    last = setting.options.heads[-1]
    before = float(over_all(found, "nothing", 0).mean())
    claims = (
        _iti(found, last, setting.seed),
        _against(found, "ITI", last, setting.seed),
        *_which_heads(found, last, setting.seed),
        _low_rank(found, last, all_parameters(setting.model), setting.seed),
        _own_heads(found, last, setting.seed),
    )
    if before <= BADLY:
        return claims
    why = f"{before:.0%} are right without any change: there is little to repair"
    return tuple(untestable(c.claim, c.criterion, why, reason=c.reason, source=c.source) for c in claims)


def _iti(found: Mapping[str, Measured], k: int, seed: int) -> JudgedClaim:
    gained = by_place(found, ("ITI", k), ("nothing", 0))
    return judge(
        "shifting the heads that tell right from wrong makes more answers right (inference-time intervention)",
        f"accuracy at least {ITI_GAIN} above the model as it is, {OVER}",
        float(gained.mean()) >= ITI_GAIN and mean_interval(gained, within=CHANGE, seed=seed).low > 0,
        paper="0.325 to 0.651",
        found=float(over_all(found, "ITI", k).mean()),
        control=float(over_all(found, "nothing", 0).mean()),
        n=len(gained),
        reason="a third of the paper's gain; heads and strength are chosen on other words",
        source="Li et al. 2023, abstract: Alpaca on TruthfulQA",
    )


def _against(found: Mapping[str, Measured], name: str, k: int, seed: int) -> JudgedClaim:
    more = by_place(found, ("LoFiT", k), (name, k))
    return judge(
        "trained offsets are better than inference-time intervention",
        f"accuracy above it with {k} heads, {OVER}",
        float(more.mean()) > 0 and mean_interval(more, within=CHANGE, seed=seed).low > 0,
        found=float(over_all(found, "LoFiT", k).mean()),
        control=float(over_all(found, name, k).mean()),
        n=len(more),
        reason="the same training and validation words for both, paired over test prompts of these tasks",
        source="Yin et al. 2024, inference-time intervention as baseline",
    )


def _which_heads(found: Mapping[str, Measured], k: int, seed: int) -> tuple[JudgedClaim, JudgedClaim]:
    """The two claims about the choice of heads, corrected for being two."""
    own = over_all(found, "LoFiT", k)
    names = ("random heads", "another task's heads")
    differences = [by_place(found, ("LoFiT", k), (name, k)) for name in names]
    ps = holm([_p(d, seed) for d in differences])
    gained = by_place(found, ("LoFiT", k), ("nothing", 0))
    works = mean_interval(gained, within=CHANGE, seed=seed).low > 0
    texts = (
        "the heads chosen are better than random heads of the same layers",
        "heads chosen for another task, and not for this one, do worse than the task's own",
    )
    sources = ("a control of ours", "Yin et al. 2024, abstract")
    criterion = (
        f"accuracy above theirs with {k} head(s) each, p below 0.05 (sign flips over places of words, Holm over both); "
        f"cannot be tested unless the task's own heads do better than none, {OVER}"
    )
    reason = (
        "where offsets change nothing no choice of heads can matter, so it is judged with as many heads as the claims "
        "about how well it works; heads that both choices have are left out of the other; the same training for all"
    )
    if not works:
        why = f"offsets of {k} head(s) change too little: {gained.mean():+.3f} accuracy over no change"
        return tuple(
            untestable(
                text, criterion, why, found=float(own.mean()), n=len(gained), reason=reason, source=source
            )
            for text, source in zip(texts, sources, strict=True)
        )
    return tuple(
        judge(
            text,
            criterion,
            float(difference.mean()) > 0 and p < 0.05,
            found=float(own.mean()),
            control=float(over_all(found, name, k).mean()),
            n=len(difference),
            reason=reason,
            source=source,
        )
        for name, text, difference, p, source in zip(names, texts, differences, ps, sources, strict=True)
    )


def _p(difference: np.ndarray, seed: int, *, draws: int = 4000) -> float:
    """Probability of a mean as large when each place's difference is as likely of either sign."""
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(difference)))
    return (1 + int(((signs * difference).mean(1) >= difference.mean() - 1e-12).sum())) / (1 + draws)


def _low_rank(found: Mapping[str, Measured], k: int, everything: int, seed: int) -> JudgedClaim:
    one = next(iter(found.values()))
    few, many = one.parameters["LoFiT", k], one.parameters["low rank", k]
    lacking = by_place(found, ("low rank", k), ("LoFiT", k))
    return judge(
        "as good as low-rank fine-tuning with 20 to 200 times fewer trained numbers",
        f"at most {COMPARABLE} accuracy below it (upper end of the interval, places of words resampled), "
        f"at least {FEWER:g} times fewer numbers",
        mean_interval(lacking, within=CHANGE, seed=seed).high <= COMPARABLE and many / few >= FEWER,
        paper="20 to 200 times",
        found=float(over_all(found, "LoFiT", k).mean()),
        control=float(over_all(found, "low rank", k).mean()),
        n=len(lacking),
        reason=f"{few} against {many:,} numbers ({many / few:.0f} times; the whole model has {everything:,}); both "
        "keep the best on validation words",
        source="Yin et al. 2024, abstract",
    )


def _own_heads(found: Mapping[str, Measured], k: int, seed: int) -> JudgedClaim:
    runs = [chosen.top(k) for one in found.values() for chosen in one.localised]
    tasks = np.array([i for i, one in enumerate(found.values()) for _ in one.localised])
    overlap = np.array([jaccard(here, there) for here, there in product(runs, runs)]).reshape(len(runs), -1)
    claim = "different tasks choose different heads"
    criterion = (
        f"the first {k} heads of two tasks share less than those of two seeds of one task (mean overlap), p below 0.05 "
        "when it is permuted which task each choice was made for"
    )
    known = {
        "reason": "overlap between seeds is the most that overlap between tasks could be; if tasks did not matter, all "
        "choices would be draws of one kind",
        "source": "Yin et al. 2024, abstract: the choice is task-specific",
        "n": len(runs),
    }
    ways = groupings(len(found), len(runs) // len(found))
    if ways <= 20:
        why = f"{len(runs)} choices can be grouped in {ways} ways only: no p below 0.05 is possible"
        return untestable(claim, criterion, why, **known)
    same, across = _overlaps(overlap, tasks)
    p = _p_of_tasks(overlap, tasks, seed)
    return judge(claim, criterion, across < same and p < 0.05, found=across, control=same, **known)


def groupings(groups: int, size: int) -> int:
    """In how many ways ``groups * size`` things can be put into groups of this size."""
    return factorial(groups * size) // (factorial(size) ** groups * factorial(groups))


def _overlaps(overlap: np.ndarray, tasks: np.ndarray) -> tuple[float, float]:
    """Mean overlap of two choices for one task, and of two for different tasks."""
    alike, own = tasks[:, None] == tasks[None], np.eye(len(tasks), dtype=bool)
    return float(overlap[alike & ~own].mean()), float(overlap[~alike].mean())


def _p_of_tasks(overlap: np.ndarray, tasks: np.ndarray, seed: int, *, draws: int = 4000) -> float:
    """Probability of a gap between both as large when tasks are given to choices at random."""

    def gap(labels: np.ndarray) -> float:
        same, across = _overlaps(overlap, labels)
        return same - across

    rng, seen = np.random.default_rng(seed), gap(tasks)
    return (1 + sum(gap(rng.permutation(tasks)) >= seen - 1e-12 for _ in range(draws))) / (1 + draws)
