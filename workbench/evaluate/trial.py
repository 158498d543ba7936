"""The whole evaluation of a circuit: all evidence, and the verdicts that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.evaluation_file import EVALUATION
from workbench.circuits.scores import Scores
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.judgement import Judgement, circuit_digest
from workbench.circuits.verdicts.table import recompute_verdicts
from workbench.core.errors import WorkbenchError
from workbench.engine.interventions.words import Ablation
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.completeness import completeness
from workbench.evaluate.evidence import (
    ablation_evidence,
    completeness_evidence,
    curve_evidence,
    edge_evidence,
    matched_evidence,
    minimality_evidence,
    random_evidence,
    scores_evidence,
    specificity_evidence,
)
from workbench.evaluate.faithfulness import Progress
from workbench.evaluate.judge_plan import JudgePlan, require_pairs
from workbench.evaluate.minimality import minimality
from workbench.evaluate.specificity import OtherTasks
from workbench.evaluate.stability import Stability, stability
from workbench.evaluate.subject import Subject
from workbench.evaluate.variance import variance


@on_a_task
def judge(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    found_on: PairedRuns | None = None,
    found_note: str = "",
    scores: Scores | None = None,
    others: OtherTasks | None = None,
    ablation: Ablation = "resample",
    plan: JudgePlan | None = None,
    criteria: Criteria | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Measure everything the verdicts need; a part that cannot be measured is missing, with the reason.

    Args:
        runs: Pairs the circuit is judged on; other prompts than it was found on.
        found_on: The pairs it was found on, from which stability resamples; without them stability is not measured.
        found_note: What is to be said of those pairs: that they are others, or why there are none.
        scores: What the circuit was selected from, for the faithfulness of other sizes; without them it has no curve.
        others: Other tasks on the same model (``other_tasks``), for specificity, which is not asked without them.

    Returns:
        All evidence per pair in the metric's unit, and the verdicts that follow from it.

    Raises:
        OptionError: for a single pair, which has no interval and no test.

    Source:
        Wang et al. 2023, arXiv:2211.00593 (completeness, minimality); Shi et al. 2024, arXiv:2410.13032 (tests).

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> plan = wb.JudgePlan(
        ...     draws=2, edges=2, random_sets=1, restarts=1, steps=1, candidates=1, bootstraps=2, refits=0
        ... )
        >>> found = wb.judge(wb.score(runs, "eap").top(100), runs, plan=plan)
        >>> [verdict.name for verdict in found.verdicts][:1]
        ['faithful']
    """
    plan, criteria = plan or JudgePlan(), criteria or Criteria()
    require_pairs(runs.n_pairs)
    subject = Subject(runs=runs, circuit=circuit, ablation=ablation)
    evidence: dict[str, Any] = {"scores": scores_evidence(subject, _titled("scores", progress))}
    missing: dict[str, str] = {}
    for name, measure in _parts(subject, found_on, found_note, scores, others, plan).items():
        try:
            evidence[name] = measure(_titled(name, progress))
        except WorkbenchError as reason:
            missing[name] = reason.message
    content = {
        "circuit": _facts(circuit, subject),
        "metric": runs.metric.name,
        "unit": runs.metric.unit,
        "direction": runs.metric.direction,
        "ablation": ablation,
        "behavior": runs.behavior.to_dict("faithfulness and verdicts"),
        "pairs": {
            "ids": [pair.id for pair in runs.pairs.pairs],
            "groups": [pair.group for pair in runs.pairs.pairs],
            "clusters": list(runs.pairs.pairs.clusters),
        },
        "provenance": runs.provenance(),
        "plan": asdict(plan) | {"ablations": list(plan.ablations)},
        "criteria": asdict(criteria),
        "evidence": evidence,
        "missing": missing,
    }
    verdicts = recompute_verdicts(content)
    return Judgement(document=EVALUATION.document({**content, "verdicts": [v.to_dict() for v in verdicts]}))


def _parts(
    subject: Subject,
    found_on: PairedRuns | None,
    found_note: str,
    scores: Scores | None,
    others: OtherTasks | None,
    plan: JudgePlan,
) -> dict[str, Callable[[Any], Any]]:
    """What is measured besides the scores, by its name in the evidence."""
    seed, edge = plan.seed, subject.circuit.level == "edge"
    sets = {name: getattr(plan, name) for name in ("random_sets", "restarts", "steps", "candidates")}

    found: dict[str, Stability] = {}

    def again(progress: Any) -> Any:
        if found_on is None:
            raise WorkbenchError(found_note or "the pairs it was found on are not at hand")
        how = {"draws": plan.bootstraps, "refits": plan.refits, "seed": seed, "note": found_note}
        found["stability"] = stability(subject.circuit, found_on, progress=progress, **how)
        return found["stability"].to_dict()

    def varies(progress: Any) -> Any:
        if found_on is None:
            raise WorkbenchError(found_note or "the pairs it was found on are not at hand")
        return variance(
            subject.circuit,
            found_on,
            draws=plan.bootstraps,
            refits=plan.refits,
            splits=plan.splits,
            resampled=found["stability"].jaccard if "stability" in found else None,
            seed=seed,
            ablation=subject.ablation,
            progress=progress,
        ).to_dict()

    def curve(progress: Any) -> Any:
        if scores is None:
            raise WorkbenchError("the scores it was selected from are not at hand")
        return curve_evidence(subject, scores, progress)

    def single_edges(progress: Any) -> Any:
        if not edge or not subject.edges:
            raise WorkbenchError("the circuit has no edges" if edge else "a node-level circuit has no edges")
        return edge_evidence(subject, plan, progress)

    def specific(progress: Any) -> Any:
        return specificity_evidence(subject, others or OtherTasks(runs=()), plan, progress)

    asked_later: dict[str, Callable[[Any], Any]] = {} if others is None else {"specificity": specific}
    if found_on is not None:
        asked_later["variance"] = varies
    return {
        "curve": curve,
        "completeness": lambda p: completeness_evidence(completeness(subject, seed=seed, progress=p, **sets)),
        "minimality": lambda p: minimality_evidence(minimality(subject, progress=p)),
        "edges": single_edges,
        "random": lambda p: random_evidence(subject, plan, p),
        "matched": lambda p: matched_evidence(subject, plan, p),
        "ablations": lambda p: ablation_evidence(subject, plan, p),
        "stability": again,
        **asked_later,
    }


def _titled(name: str, progress: Progress | None) -> Progress | None:
    """Progress that says which part of the evaluation is running."""
    if progress is None:
        return None

    def told(done: int, total: int, what: str = "") -> None:
        progress(done, total, f"{name}: {what}")

    return told


def _facts(circuit: Circuit, subject: Subject) -> dict[str, Any]:
    """What the circuit is, for the head of the file."""
    graph = subject.graph
    roles = {a: d["role"] for a, d in circuit.nodes.items() if d["role"]}
    return {
        "digest": circuit_digest(circuit),
        "level": circuit.level,
        "method": circuit.method,
        "task": circuit.task,
        "model": circuit.model,
        "size": circuit.size,
        "candidates": (graph.n_edges if circuit.level == "edge" else len(graph.sources) - 1)
        * max(1, int(np.prod(subject.kept.shape[: -2 if circuit.level == "edge" else -1]))),
        "heads": list(circuit.heads),
        "roles": roles,
    }
