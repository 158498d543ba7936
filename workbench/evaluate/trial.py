"""The whole evaluation of a circuit: all evidence, and the verdicts that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.evaluation_file import EVALUATION
from workbench.circuits.scores import Scores
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.judgement import Judgement, circuit_digest
from workbench.circuits.verdicts.table import recompute_verdicts
from workbench.core.errors import WorkbenchError
from workbench.core.run_record import digest_of
from workbench.engine.distribute import remembered_steps
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
from workbench.evaluate.stability import stability
from workbench.evaluate.subject import Subject
from workbench.evaluate.variance import variance

_JACCARD = "how alike the circuits of stability are"


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

    After an interruption the same call goes on behind the last question that was answered; what follows may differ in
    rounding, since it does not read what was computed for the questions before.

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
    missing: dict[str, str] = {}
    parts = _Parts(
        subject=subject, found_on=found_on, found_note=found_note, scores=scores, others=others, plan=plan
    )
    bare = runs.is_bare() and (found_on is None or found_on.is_bare())
    with remembered_steps(parts.question(), bare=bare) as done:
        if "scores" not in done:
            done["scores"] = scores_evidence(subject, _titled("scores", progress))
        evidence: dict[str, Any] = {"scores": done["scores"]}
        for name, measure in parts.by_name().items():
            kept = {} if name == "specificity" else done  # other tasks have no digest
            try:
                if name not in kept:
                    kept[name] = measure(_titled(name, progress))
                evidence[name] = kept[name]
            except WorkbenchError as reason:
                missing[name] = reason.message
            if name == "stability":
                parts.jaccard = done.setdefault(_JACCARD, parts.jaccard)
    content = {
        **_setting(subject),
        "plan": asdict(plan) | {"ablations": list(plan.ablations)},
        "criteria": asdict(criteria),
        "evidence": evidence,
        "missing": missing,
    }
    verdicts = recompute_verdicts(content)
    return Judgement(document=EVALUATION.document({**content, "verdicts": [v.to_dict() for v in verdicts]}))


def _setting(subject: Subject) -> dict[str, Any]:
    """What is judged: the circuit, the metric, and the pairs on which."""
    runs = subject.runs
    pairs = runs.pairs.pairs
    return {
        "circuit": _facts(subject.circuit, subject),
        "metric": runs.metric.name,
        "unit": runs.metric.unit,
        "direction": runs.metric.direction,
        "ablation": subject.ablation,
        "behavior": runs.behavior.to_dict("faithfulness and verdicts"),
        "pairs": {
            "ids": [pair.id for pair in pairs],
            "groups": [pair.group for pair in pairs],
            "clusters": list(pairs.clusters),
        },
        "provenance": runs.provenance(),
    }


@dataclass(kw_only=True)
class _Parts:
    """What is measured besides the scores, each as a function of progress that gives its evidence."""

    subject: Subject
    found_on: PairedRuns | None
    found_note: str
    scores: Scores | None
    others: OtherTasks | None
    plan: JudgePlan
    jaccard: float | None = None  # how alike circuits of resampled pairs are, once stability is measured

    def question(self) -> str:
        """Digest of all that decides the evidence, but for the other tasks."""
        runs, found_on, scores = self.subject.runs, self.found_on, self.scores
        return digest_of(
            [
                "judge",
                circuit_digest(self.subject.circuit),
                [runs.provenance(), runs.metric.to_dict(), runs.batch_tokens, str(self.subject.ablation)],
                None if found_on is None else [found_on.provenance(), found_on.metric.to_dict()],
                self.found_note,
                None if scores is None else [scores.method, sha256(scores.values.tobytes()).hexdigest()],
                {**asdict(self.plan), "ablations": list(self.plan.ablations)},
            ]
        )

    def by_name(self) -> dict[str, Callable[[Any], Any]]:
        """Return them by their names in the evidence, in the order in which they are measured."""
        subject, plan = self.subject, self.plan
        return {
            "curve": self.curve,
            "completeness": self.completeness,
            "minimality": lambda progress: minimality_evidence(minimality(subject, progress=progress)),
            "edges": self.edges,
            "random": lambda progress: random_evidence(subject, plan, progress),
            "matched": lambda progress: matched_evidence(subject, plan, progress),
            "ablations": lambda progress: ablation_evidence(subject, plan, progress),
            "stability": self.stability,
            **({} if self.others is None else {"specificity": self.specificity}),
            **({} if self.found_on is None else {"variance": self.variance}),
        }

    def curve(self, progress: Any) -> Any:
        if self.scores is None:
            raise WorkbenchError(
                "the scores it was selected from are not at hand",
                hint="name the folder that workbench discover wrote: it has the scores",
            )
        return curve_evidence(self.subject, self.scores, progress)

    def completeness(self, progress: Any) -> Any:
        names = ("random_sets", "restarts", "steps", "candidates")
        sets = {name: getattr(self.plan, name) for name in names}
        return completeness_evidence(
            completeness(self.subject, seed=self.plan.seed, progress=progress, **sets)
        )

    def edges(self, progress: Any) -> Any:
        if self.subject.circuit.level != "edge":
            raise WorkbenchError(
                "a node-level circuit has no edges", hint="--level edge finds a circuit with edges"
            )
        if not self.subject.edges:
            raise WorkbenchError("the circuit has no edges", hint="keep more: workbench discover --keep 10%")
        return edge_evidence(self.subject, self.plan, progress)

    def stability(self, progress: Any) -> Any:
        plan = self.plan
        how = {"draws": plan.bootstraps, "refits": plan.refits, "seed": plan.seed, "note": self.found_note}
        found = stability(self.subject.circuit, self._pairs_found_on(), progress=progress, **how)
        self.jaccard = found.jaccard
        return found.to_dict()

    def variance(self, progress: Any) -> Any:
        return variance(
            self.subject.circuit,
            self._pairs_found_on(),
            draws=self.plan.bootstraps,
            refits=self.plan.refits,
            splits=self.plan.splits,
            resampled=self.jaccard,
            varied=self.plan.varied,
            seed=self.plan.seed,
            ablation=self.subject.ablation,
            progress=progress,
        ).to_dict()

    def specificity(self, progress: Any) -> Any:
        return specificity_evidence(self.subject, self.others or OtherTasks(runs=()), self.plan, progress)

    def _pairs_found_on(self) -> PairedRuns:
        if self.found_on is None:
            raise WorkbenchError(
                self.found_note or "the pairs it was found on are not at hand",
                hint="find it again with workbench discover, which keeps the names of its pairs",
            )
        return self.found_on


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
