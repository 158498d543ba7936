"""Circuit Workbench: open a transformer, find which parts do the work, save the answer as a graph.

>>> import workbench as wb
>>> model = wb.open_model("zoo:ioi")
>>> runs = wb.paired_runs(model, "ioi")
>>> found = wb.discover(runs, "eap-ig", amount="5%", random_draws=1)
>>> found.circuit.n_edges
22

Public names are loaded when they are first used, so that reading a saved circuit never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.loading import loading as _loading

# name -> module, or module:name where the public name is another: a public name that is also a package's
# (``sweep``) would be replaced by the package as soon as anything imports it.
_HOME = {
    "WorkbenchError": "errors",
    # circuits and scores (no torch)
    "Circuit": "circuit",
    "Graph": "graph",
    "GraphShape": "graph",
    "Scores": "scores",
    "load_circuit": "io",
    "save_circuit": "io",
    "load_scores": "io",
    "save_scores": "io",
    "export": "io",
    "load_effects": "io.effects_file",
    "Behavior": "behavior",
    # pairs
    "Pair": "tasks.pairs",
    "Pairs": "tasks.pairs",
    "load_pairs": "tasks.pairs",
    "make_pairs": "tasks.registry",
    "list_tasks": "tasks.registry",
    "check_pairs": "tasks.check",
    "reading_of": "model.from_files",
    # models
    "open_model": "model.open",
    "describe": "model.architecture",
    "identity": "model.identity",
    # runs and interventions
    "PairedRuns": "sweep.runs",
    "as_pairs": "tasks.in_memory",
    "paired_runs": "sweep.of_task",
    "measure": "sweep.run:sweep",
    "Reference": "sweep.run",
    "Edit": "interventions.edits",
    "Intervention": "interventions.edits",
    "KnockOut": "interventions.edits",
    "Replacement": "interventions.replacement",
    "Scale": "interventions.replacement",
    "Steer": "interventions.replacement",
    "ablations": "interventions.ablation",
    "parts_of": "interventions.ablation",
    "patches": "interventions.patching",
    "site_nodes": "interventions.patching",
    "knock_outs": "interventions.patching",
    "path_patches": "interventions.path_patching",
    "ablate": "experiments",
    "patch": "experiments",
    "knock_out": "experiments",
    "get_metric": "metrics",
    # methods and judgement
    "score": "methods.score",
    "list_methods": "methods.registry",
    "faithfulness": "evaluate.faithfulness",
    "faithfulness_curve": "evaluate.faithfulness",
    "random_circuit": "evaluate.baselines",
    "MIB_SHARES": "evaluate.faithfulness",
    "compare_curves": "evaluate.curves",
    "Subject": "evaluate.subject",
    "completeness": "evaluate.completeness",
    "minimality": "evaluate.minimality",
    "stability": "evaluate.stability",
    "judge": "evaluate.judge",
    "JudgePlan": "evaluate.evidence:Plan",
    "Criteria": "criteria",
    "recompute_verdicts": "verdicts",
    "equivalence": "statistics",
    "independence": "statistics",
    "edge_minimality": "statistics",
    "save_evaluation": "io.evaluation_file",
    "load_evaluation": "io.evaluation_file",
    "head_roles": "evaluate.roles",
    # heads
    "portrait": "heads.portrait",
    "Portrait": "heads.table",
    "load_portrait": "heads.table",
    "patterns_of": "heads.observe",
    "discover": "study",
    # known circuits and the bench of methods
    "list_truths": "evaluate.truth",
    "load_truth": "evaluate.truth",
    "edge_labels": "evaluate.truth",
    "node_labels": "evaluate.truth",
    "recovery": "evaluate.ground_truth",
    "bench_discovery": "bench.bench",
    "BenchSettings": "bench.settings:Settings",
    "load_bench": "bench.table",
    # papers measured again
    "replicate": "replications.job:replicate_job",
    "replicate_all": "replications.job",
    "list_replications": "replications.registry",
}
_ROOMS = {"edits"}  # public as a whole: wb.edits.Affine, wb.edits.turn_off
__all__ = sorted([*_HOME, *_ROOMS])

if TYPE_CHECKING:
    from workbench.circuit import Circuit as Circuit
    from workbench.io import load_circuit as load_circuit
    from workbench.io import save_circuit as save_circuit
    from workbench.model.open import open_model as open_model
    from workbench.study import discover as discover
    from workbench.sweep.of_task import paired_runs as paired_runs


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"workbench.{name}")
    if name not in _HOME:
        raise AttributeError(f"workbench has no public name {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _HOME[name].partition(":")
    with _loading():
        found = getattr(import_module(f"workbench.{module}"), attribute or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
