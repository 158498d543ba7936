"""How much a circuit varies: over templates, over halves of the pairs, over single pairs, and on a null task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.variance import Variance
from workbench.circuits.verdicts.decisions import LEAST_GROUP
from workbench.core.errors import OptionError
from workbench.core.progress import Progress
from workbench.core.stats.agreement import jaccard
from workbench.core.stats.intervals import ratio
from workbench.engine.interventions.words import Ablation
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import run_circuits
from workbench.evaluate.positions import positions_of
from workbench.evaluate.stability import Chooser, stability
from workbench.methods.exact import effects_of_pairs

__all__ = ["deranged", "variance"]
_TRIES = 50  # orders that are tried, of which the one with the fewest equal answers is taken


@on_a_task
def variance(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    draws: int = 100,
    refits: int = 10,
    splits: int = 10,
    resampled: float | None = None,
    varied: int = 40,
    seed: int = 0,
    ablation: Ablation = "resample",
    progress: Progress | None = None,
) -> Variance:
    """Find a circuit again on each template, on halves of the pairs and on a null task, and judge it on single pairs.

    Args:
        runs: The pairs it was found on.
        draws, refits: As in ``stability``, for the resampled pairs of the task and of the null task.
        splits: Times the pairs are split in halves; at most ``refits`` for a method that is run again each time.
        resampled: Mean Jaccard over resampled pairs, where ``stability`` has measured it already.
        varied: Most edges of the circuit, by size of score, whose exact effect is measured on every pair; of circuits
            at positions, or of nodes, none.

    Returns:
        Overlaps from 0 to 1 and shares of the gap, all without unit.

    Raises:
        OptionError: if the circuit does not say how it was chosen, or all pairs have the same answers.

    Source:
        Meloux et al. 2025, arXiv:2510.00845, for variance over resampled and rephrased prompts.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=6, split="train")
        >>> found = wb.variance(wb.score(runs, "eap").top(40), runs, draws=3, splits=2)
        >>> len(found.halves), len(found.each)
        (2, 6)
    """
    again = Chooser(circuit, runs, progress=progress)
    how: dict[str, Any] = {"draws": draws, "refits": refits, "seed": seed}
    groups = np.array([pair.group for pair in runs.pairs.pairs])
    names = [str(g) for g in dict.fromkeys(groups.tolist()) if (groups == g).sum() >= LEAST_GROUP]
    at = [np.flatnonzero(groups == name) for name in names]
    own = [again.on(pairs)[0] for pairs in at]
    edges = [set(one.edges or one.nodes) for one in own]
    nothing = Circuit.build(shape=circuit.shape, nodes={}, edges={}, level=circuit.level)
    *values, whole, empty = run_circuits(runs, [*own, circuit, nothing], ablation=ablation, progress=progress)
    shares = [[ratio(v[p], runs.clean[p], empty[p]) for p in at] for v in values]
    size = (len(names), len(names))
    return Variance(
        templates=tuple(names),
        overlap=np.array([[jaccard(a, b) for b in edges] for a in edges]).reshape(size),
        faithfulness=np.array(shares).reshape(size),
        halves=tuple(_halves(again, splits if again.averages else min(splits, refits), seed)),
        resampled=stability(circuit, runs, **how).jaccard if resampled is None else resampled,
        null=stability(circuit, deranged(runs, seed=seed), **how).jaccard,
        each=np.array([ratio(*(v[[i]] for v in (whole, runs.clean, empty))) for i in range(runs.n_pairs)]),
        **_edges_over_pairs(circuit, runs, varied, ablation),
    )


def _edges_over_pairs(circuit: Circuit, runs: PairedRuns, most: int, ablation: Ablation) -> dict[str, Any]:
    """What the exact effects of the circuit's largest edges are from pair to pair."""
    if circuit.level != "edge" or positions_of([circuit]):
        return {}
    graph, scores = runs.wiring.graph(), circuit.edges
    chosen = sorted(circuit.parsed_edges, key=lambda edge: (-abs(scores[str(edge)]), str(edge)))[:most]
    effects = effects_of_pairs(runs, graph, [graph.index(edge) for edge in chosen], ablation=ablation)
    mean = effects.mean(1)
    return {
        "edges": tuple(str(edge) for edge in chosen),
        "effect": mean,
        "spread": effects.std(1, ddof=1) if runs.n_pairs > 1 else np.full(len(chosen), np.nan),
        "signs": (np.sign(effects) == np.sign(mean)[:, None]).mean(1),
    }


def _halves(again: Chooser, splits: int, seed: int) -> list[float]:
    """Jaccard of the circuits of two halves, for each random split; no pair is in both."""
    rng, n = np.random.default_rng(seed), again.runs.n_pairs
    found = []
    for _ in range(splits):
        order = rng.permutation(n)
        one, two = (again.on(half)[0] for half in (order[: n // 2], order[n // 2 :]))
        found.append(jaccard(set(one.edges or one.nodes), set(two.edges or two.nodes)))
    return found


def deranged(runs: PairedRuns, *, seed: int = 0) -> PairedRuns:
    """Return the null task: the same prompts, each with the answers of another pair.

    Raises:
        OptionError: if all pairs have the same answers.
    """
    aligned, rng, n = runs.pairs, np.random.default_rng(seed), runs.n_pairs
    answers = list(zip(aligned.correct, aligned.incorrect, strict=True))
    if len(set(answers)) < 2:
        raise OptionError(
            "all pairs have the same answers: there is no null task", hint="take pairs with different answers"
        )
    best, fewest = np.roll(np.arange(n), 1), n + 1
    for _ in range(_TRIES):
        order = rng.permutation(n)
        other = np.empty(n, dtype=int)
        other[order] = np.roll(order, 1)  # one round trip: no pair keeps its own
        same = sum(answers[i] == answers[j] for i, j in enumerate(other))
        best, fewest = (other, same) if same < fewest else (best, fewest)
    items = [
        replace(pair, correct=aligned.pairs[int(j)].correct, incorrect=aligned.pairs[int(j)].incorrect)
        for pair, j in zip(aligned.pairs, best, strict=True)
    ]
    null = replace(
        aligned,
        pairs=replace(aligned.pairs, items=tuple(items)),
        correct=tuple(aligned.correct[j] for j in best),
        incorrect=tuple(aligned.incorrect[j] for j in best),
    )
    tower = runs.wiring.with_tower
    return PairedRuns(runs.model, null, metric=runs.metric, batch_tokens=runs.batch_tokens, with_tower=tower)
