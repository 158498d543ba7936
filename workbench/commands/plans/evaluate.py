"""What a whole evaluation measures, and what that would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import circuit_path
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.decisions import LEAST_GROUP
from workbench.commands.asked.evaluate import case_of, opening_of
from workbench.commands.forms.evaluate import Evaluate
from workbench.commands.plans.inputs import planned_runs
from workbench.core.job import Job
from workbench.core.show import Told
from workbench.engine.cost import passes_cost
from workbench.evaluate.judge_plan import MOST_OTHERS, JudgePlan, require_pairs
from workbench.methods.registry import METHODS, Level, get_method
from workbench.tasks.pairs import Pairs


@dataclass(frozen=True, kw_only=True)
class JudgingCost(Told):
    """What a whole evaluation would run, before anything is run."""

    circuits: int
    pairs: int
    tokens: int
    files: tuple[str, ...]
    independent_pairs: int
    other_tasks: int
    variance: int = 0  # of the passes, those that find it again on other choices of pairs
    gflop: float | None = None  # a whole pass for each circuit
    kv_mb: float = 0.0  # keys and values of one pass over all prompts, float32

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"dry_run": True, **self.__dict__, "files": list(self.files)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        text = (
            "dry run: nothing was measured; no weights were loaded; each circuit is one forward pass per pair"
        )
        text += f"; specificity is counted for {self.other_tasks} other tasks, finding them not"
        least = Criteria().least_pairs
        if self.independent_pairs < least:
            text += f"; with fewer than {least} independent pairs verdicts that rest on an interval stay open"
        return [text, dict(self.__dict__)]


def evaluate(asked: Evaluate, job: Job) -> JudgingCost:
    """Say what a whole evaluation would run.

    Raises:
        OptionError: for a single pair.
    """
    require_pairs(2 if asked.limit is None else asked.limit)
    plan, case, folder = plan_of(asked), case_of(asked), folder_of(asked, job)
    planned = planned_runs(**opening_of(case, asked))
    others = len(asked.other_task) or MOST_OTHERS
    nodes = sum(d["kind"] not in ("input", "logits") for d in case.circuit.nodes.values())
    passes = plan.passes(n_edges=case.circuit.n_edges, n_nodes=nodes, other_tasks=others)
    varying = variance_passes(plan, case.circuit, planned.pairs.pairs)
    passes += varying
    lengths = [len(ids) for ids in planned.pairs.clean]
    priced: dict[str, Any] = passes_cost(planned.wiring, passes, lengths).to_dict()
    return JudgingCost(
        circuits=passes,
        variance=varying,
        pairs=len(planned.pairs),
        tokens=sum(lengths),
        **priced,
        files=(str(folder / "evaluation.json"), str(folder / "evaluation.html")),
        independent_pairs=len(set(planned.pairs.pairs.clusters)),
        other_tasks=others,
    )


def variance_passes(plan: JudgePlan, circuit: Circuit, pairs: Pairs) -> int:
    """Say about how many passes find a circuit again; none for one that does not say how it was found."""
    said = circuit.provenance.get("options")
    if circuit.method not in METHODS or not isinstance(said, Mapping):
        return 0
    method = get_method(circuit.method)
    level: Level = "node" if circuit.level == "node" else "edge"
    known = {name: value for name, value in said.items() if name in method.option_names()}
    cost = method.cost(method.make_options(**known), circuit.graph, level)
    groups = Counter(pair.group for pair in pairs)
    return plan.variance_passes(
        n_edges=circuit.n_edges,
        scoring=cost.passes,
        templates=sum(n >= LEAST_GROUP for n in groups.values()),
        averages=method.in_parts,
        decides=circuit.selection.get("rule") == "own",
    )


def plan_of(asked: Evaluate) -> JudgePlan:
    """Say how much a whole evaluation measures."""
    draws = 100 if asked.random_draws is None else asked.random_draws
    return JudgePlan(
        draws=draws,
        seed=asked.seed,
        edges=asked.edges,
        bootstraps=asked.bootstraps,
        refits=asked.refits,
        cuts=min(draws, JudgePlan().cuts),
    )


def folder_of(asked: Evaluate, job: Job) -> Path:
    """Say where a whole evaluation is written: beside the circuit by default."""
    return Path(job.out) if job.out is not None else circuit_path(asked.circuit).parent
