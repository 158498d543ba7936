"""What one method is measured by: its scores against a known circuit, or the circuits it gives on a trained task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workbench.bench.defence import MOST_TASKS, cut_out, variation
from workbench.bench.part_scores import halves_of, templates_of
from workbench.bench.settings import GRID, SHOWN, STABLE_SHARE, Level, Variant
from workbench.circuits.scores import Ranking, Scores
from workbench.core.errors import OptionError
from workbench.core.stats.agreement import chance_jaccard, mean_jaccard, pearson, spearman
from workbench.core.stats.sampled_agreement import correlation
from workbench.core.stats.student import standard_errors
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import faithfulness, ratio, run_circuits
from workbench.evaluate.ground_truth import recovery
from workbench.evaluate.specificity import OtherTasks, other_tasks
from workbench.evaluate.variance import deranged
from workbench.methods.by_name import score
from workbench.methods.registry import Method, get_method
from workbench.model.known_circuits import Truth, edge_labels, node_labels


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Scores and what they took: CPU seconds of this process (which other work on the machine does not change)
    and wall seconds, from pairs on an opened, warm model to scores."""

    scores: Scores
    cpu_seconds: float
    wall_seconds: float

    def spent(self) -> dict[str, Any]:
        return {
            "passes": self.scores.passes,
            "cpu_seconds": round(self.cpu_seconds, 4),
            "wall_seconds": round(self.wall_seconds, 4),
        }


def number(x: float) -> float | None:
    """Return a finite number, or None: JSON has no NaN."""
    return float(x) if np.isfinite(x) else None


def ranking_of(method: Method) -> Ranking:
    """Say how a method's scores are ranked: by size, unless the method says that only positive ones are kept."""
    return "signed" if method.signed else "absolute"


def timed(runs: PairedRuns, variant: Variant, level: Level, *, seed: int | None = None) -> Timed:
    """Score once, with nothing left over from an earlier scoring; ``seed`` is for methods that have one."""
    options = dict(variant.options)
    if seed is not None and has_seed(variant):
        options["seed"] = seed
    for batch in runs.batches:
        runs.release(batch)
    wall, cpu = time.perf_counter(), time.process_time()
    scores = score(runs, variant.method, level=level, **options)
    return Timed(
        scores=scores, cpu_seconds=time.process_time() - cpu, wall_seconds=time.perf_counter() - wall
    )


def has_seed(variant: Variant) -> bool:
    """Say whether the method draws at random, by a seed that was not chosen already."""
    return "seed" in get_method(variant.method).option_names() and "seed" not in variant.options


def about(scores: Scores, variant: Variant) -> dict[str, Any]:
    """Say what every cell says of its scores."""
    method = get_method(variant.method)
    return {
        "unit": scores.unit,
        "metric": scores.metric,
        "n_pairs": scores.n_pairs,
        "candidates": scores.n_candidates,
        "ranking": ranking_of(method),
        "selection": method.selection,
        "options": dict(scores.options),
    }


# -- known circuits ----------------------------------------------------------------------------------------


def truth_measures(
    runs: PairedRuns,
    truth: Truth,
    variant: Variant,
    level: Level,
    *,
    seeds: Sequence[int],
    repeat_passes: int,
) -> tuple[dict[str, Any], Scores]:
    """AUROC and AUPRC against the true circuit; a method that draws at random is scored with every seed.

    AUROC and AUPRC are then means over seeds; curves, and what is misplaced, are of the first. A method of more than
    ``repeat_passes`` is scored with the first seed alone.
    """
    first = timed(runs, variant, level, seed=seeds[0])
    labels = edge_labels if level == "edge" else node_labels
    positive, counted = labels(truth, first.scores.graph)
    by = ranking_of(get_method(variant.method))
    found = recovery(first.scores, positive, counted, by=by)
    other: Ranking = "signed" if by == "absolute" else "absolute"
    again = has_seed(variant) and first.scores.passes <= repeat_passes
    more = [timed(runs, variant, level, seed=s).scores for s in seeds[1:]] if again else []
    drawn = [found, *(recovery(scores, positive, counted, by=by) for scores in more)]
    measured = {
        **about(first.scores, variant),
        **first.spent(),
        **found.to_dict(),
        "auroc": number(float(np.mean([r.auroc for r in drawn]))),
        "auprc": number(float(np.mean([r.auprc for r in drawn]))),
        "seeds": [{"auroc": number(r.auroc), "auprc": number(r.auprc)} for r in drawn] if more else [],
        f"auroc_{other}": number(recovery(first.scores, positive, counted, by=other).auroc),
        "own": _own_against(first.scores, positive, counted),
    }
    return measured, first.scores


def _own_against(scores: Scores, positive: np.ndarray, counted: np.ndarray) -> dict[str, Any] | None:
    """Precision and recall of the circuit that the method itself decides on; None for one that only ranks."""
    if not scores.own_rule:
        return None
    circuit = scores.keep("own", prune=False)
    names = set(circuit.edges if scores.level == "edge" else circuit.nodes)
    kept = np.zeros_like(positive)
    for index in np.argwhere(scores.candidates & counted).tolist():
        kept[tuple(index)] = scores.address(tuple(index)) in names
    hits, size, true = (
        int((kept & positive).sum()),
        int(kept.sum()),
        int((positive & scores.candidates).sum()),
    )
    return {
        "size": size,
        "precision": hits / size if size else None,
        "recall": hits / true if true else None,
    }


# -- trained tasks -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TaskRuns:
    """Runs of one task: pairs that circuits are found on (one draw per seed) and pairs they are judged on."""

    draws: tuple[PairedRuns, ...]
    judged: PairedRuns

    @property
    def found_on(self) -> PairedRuns:
        return self.draws[0]

    def halves(self) -> tuple[PairedRuns, PairedRuns]:
        """Return every other pair of the first draw, and the rest."""
        index = range(self.found_on.n_pairs)
        return self.found_on.subset(index[::2]), self.found_on.subset(index[1::2])

    @cached_property
    def others(self) -> OtherTasks:
        """Other tasks that the model does, found when they are first asked for."""
        return other_tasks(self.judged, most=MOST_TASKS)


def task_measures(
    runs: TaskRuns,
    variant: Variant,
    level: Level,
    *,
    exact: Scores | None,
    seeds: Sequence[int],
    repeat_passes: int,
) -> tuple[dict[str, Any], Scores]:
    """Faithfulness over size, CPR, CMD, agreement with exact patching, stability.

    As in MIB, circuits for CPR are the best by signed score, those for CMD by size; a method that grows its
    circuits from the logits does so for both. The faithfulness at single sizes is by the method's own ranking.

    Args:
        exact: Exact effects on the same pairs, if they were measured.
    """
    first = timed(runs.found_on, variant, level, seed=seeds[0])
    scores, method = first.scores, get_method(variant.method)
    select = "greedy" if method.selection == "greedy" and level == "edge" else "top"
    curves = faithfulness_curves(scores, runs.judged, select=select)
    own = {point["share"]: point["faithfulness"] for point in curves[ranking_of(method)]}
    measured = {
        **about(scores, variant),
        **first.spent(),
        "CPR": areas(curves["signed"])["CPR"],
        "CMD": areas(curves["absolute"])["CMD"],
        "faithfulness": {f"{share:g}": own[share] for share in SHOWN},
        "curves": curves,
        "agreement": None if exact is None else agreement(scores, exact),
        "own": _own_faithfulness(scores, runs.judged),
        "stability": _stability(runs, variant, level, scores, seeds, repeat_passes, select),
        **(_defended(runs, scores, method, select, seeds[0]) if level == "edge" else {}),
    }
    return measured, scores


def _defended(runs: TaskRuns, scores: Scores, method: Method, select: str, seed: int) -> dict[str, Any]:
    """Variation over single pairs and specificity of the circuit of the best 5 % of edges."""
    circuit = scores.choose(scores.count(STABLE_SHARE), by=ranking_of(method), select=select)
    return {
        "variation": number(variation(circuit, runs.judged)),
        "specificity": cut_out(circuit, runs.judged, runs.others, seed=seed),
    }


def faithfulness_curves(
    scores: Scores, judged: PairedRuns, *, select: str = "top", shares: Sequence[float] = GRID
) -> dict[str, list[dict[str, Any]]]:
    """Faithfulness at every share, by size (``absolute``) and by ``signed`` score; equal circuits run once."""
    wanted = {
        (by, share): scores.choose(scores.count(share), by=by, select=select)
        for by in ("absolute", "signed")
        for share in shares
    }
    parts = {at: frozenset(c.edges if scores.level == "edge" else c.nodes) for at, c in wanted.items()}
    unlike = {parts[at]: circuit for at, circuit in wanted.items()}
    nothing = scores.top(0)
    values = run_circuits(judged, [nothing, *unlike.values()])
    kept = {part: ratio(v, judged.clean, values[0]) for part, v in zip(unlike, values[1:], strict=True)}
    return {
        by: [
            {"share": s, "size": wanted[by, s].size, "faithfulness": number(kept[parts[by, s]])}
            for s in shares
        ]
        for by in ("absolute", "signed")
    }


def areas(points: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """CPR, the area under faithfulness, and CMD, the area of its distance from 1: trapezoids, linear in the share.

    Source:
        Mueller et al. 2025 (MIB), arXiv:2504.13151.
    """
    if any(p["faithfulness"] is None for p in points):
        return {"CPR": None, "CMD": None}
    x = np.array([p["share"] for p in points])
    f = np.array([p["faithfulness"] for p in points])

    def area(y: np.ndarray) -> float:
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())

    return {"CPR": area(f), "CMD": area(np.abs(1 - f))}


def agreement(scores: Scores, exact: Scores) -> dict[str, Any]:
    """Correlation with exact effects over all edges (nodes); scores without a sign are compared with their sizes."""
    here, there = scores.values[exact.candidates], exact.values[exact.candidates]
    unsigned = scores.without_sign(exact.unit)
    return {
        "pearson": number(correlation(here, there, pearson, unsigned=unsigned)),
        "spearman": number(correlation(here, there, spearman, unsigned=unsigned)),
        "against": "size of the exact effect" if unsigned else "exact effect",
        "n": len(here),
    }


def _own_faithfulness(scores: Scores, judged: PairedRuns) -> dict[str, Any] | None:
    """The circuit that the method itself decides on; None for one that only ranks."""
    if not scores.own_rule:
        return None
    circuit = scores.keep("own")
    return {"size": circuit.size, "faithfulness": number(faithfulness(circuit, judged).faithfulness)}


def chosen(scores: Scores, *, by: Ranking, select: str = "top") -> set[str]:
    """Return addresses of the best share of edges (nodes), before anything unconnected is pruned."""
    n = scores.count(STABLE_SHARE)
    if select != "top":
        return set(scores.choose(n, by=by, select=select).edges)
    return {scores.address(index) for index in scores.ranked(by)[:n]}


def _stability(
    runs: TaskRuns,
    variant: Variant,
    level: Level,
    scores: Scores,
    seeds: Sequence[int],
    repeat_passes: int,
    select: str,
) -> dict[str, Any]:
    """Mean pairwise Jaccard of what is chosen: over draws of pairs, halves of one draw, and the method's seeds."""
    by = ranking_of(get_method(variant.method))

    n = scores.count(STABLE_SHARE)
    said = {"share": STABLE_SHARE, "size": n, "chance": number(chance_jaccard(n, n, scores.n_candidates))}
    if level != "edge":
        return {**said, "left_out": f"{n} of {scores.n_candidates} nodes are too few to compare"}

    def pick(found: Scores) -> set[str]:
        return chosen(found, by=by, select=select)

    def again(data: PairedRuns, seed: int = seeds[0]) -> set[str]:
        return pick(timed(data, variant, level, seed=seed).scores)

    first, halves = pick(scores), halves_of(scores)
    if has_seed(variant):
        said["seeds"] = number(mean_jaccard([first, *(again(runs.found_on, s) for s in seeds[1:])]))
    if halves is not None:
        said["halves"] = number(mean_jaccard([pick(half) for half in halves]))
    if scores.passes > repeat_passes:
        return {
            **said,
            "left_out": f"other pairs: {scores.passes} passes per batch are more than {repeat_passes}",
        }
    means = halves is not None
    if halves is None:
        said["halves"] = number(mean_jaccard([again(half) for half in runs.halves()]))
    if (null := _null_halves(runs, variant, level, seeds[0], means=means)) is not None:
        said["null"] = number(mean_jaccard([pick(half) for half in null]))
    if len(templates := templates_of(scores, runs.found_on)) > 1:
        said["templates"] = number(mean_jaccard([pick(one) for one in templates]))
    said["draws"] = number(mean_jaccard([first, *(again(data) for data in runs.draws[1:])]))
    return said


def _null_halves(
    runs: TaskRuns, variant: Variant, level: Level, seed: int, *, means: bool
) -> tuple[Scores, Scores] | None:
    """Scores of two halves of the null task (answers of other pairs); None where there is none.

    That is where all pairs have the same answers, and where the method refuses a task with nothing to find.

    Args:
        means: Whether the method's scores are plain means over pairs, so that it need not be run for each half.
    """
    try:
        null = deranged(runs.found_on, seed=seed)
        if means:
            return halves_of(timed(null, variant, level, seed=seed).scores)
        one, two = (null.subset(range(k, null.n_pairs, 2)) for k in (0, 1))
        return timed(one, variant, level, seed=seed).scores, timed(two, variant, level, seed=seed).scores
    except OptionError:
        return None


def gap_of(judged: PairedRuns) -> dict[str, Any]:
    """Mean metric of clean and corrupted runs, and whether their difference can carry a faithfulness.

    It can when it is beyond two standard errors of the paired differences and 5 % of the metric's own size.
    """
    difference = judged.clean - judged.corrupted
    stderr = float(standard_errors(difference, judged.pairs.pairs.clusters))
    size = max(float(np.abs(judged.clean).mean()), float(np.abs(judged.corrupted).mean()))
    gap = float(difference.mean())
    return {
        "clean": float(judged.clean.mean()),
        "corrupted": float(judged.corrupted.mean()),
        "gap": gap,
        "stderr": stderr,
        "carries": bool(abs(gap) > max(2 * stderr, 0.05 * size)),
    }


def options_of(variant: Variant) -> dict[str, Any]:
    """Return all options of a variant, defaults included."""
    return asdict(get_method(variant.method).make_options(**variant.options))
