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

from workbench.core.loading import loading as _loading

# name -> module, or module:name where the public name is another: a public name that is also a package's
# (``sweep``) would be replaced by the package as soon as anything imports it.
_HOME = {
    "WorkbenchError": "core.errors",
    # circuits and scores (no torch)
    "Circuit": "circuits.circuit",
    "Graph": "circuits.graph",
    "GraphShape": "circuits.graph",
    "Scores": "circuits.scores",
    "load_circuit": "circuits.files",
    "save_circuit": "circuits.files",
    "load_scores": "circuits.files",
    "save_scores": "circuits.files",
    "export": "circuits.files",
    # any result, by its type and by the format of the file
    "save": "circuits.files.any_result",
    "load": "circuits.files.any_result",
    "load_effects": "circuits.files.effects_file",
    "Behavior": "circuits.behavior",
    # pairs
    "Pair": "tasks.pairs",
    "Pairs": "tasks.pairs",
    "Picture": "tasks.pictures.image",
    "load_pairs": "tasks.pairs_file",
    "make_pairs": "tasks.registry",
    "list_tasks": "tasks.registry",
    "check_pairs": "tasks.check",
    "reading_of": "model.from_files",
    "captioned": "model.captions",
    # models
    "open_model": "model.open",
    "describe": "model.architecture",
    "identity": "model.identity",
    # runs and interventions
    "PairedRuns": "engine.paired_runs",
    "as_pairs": "tasks.in_memory",
    "paired_runs": "engine.of_task",
    "measure": "engine.sweep:sweep",
    "Reference": "engine.sweep",
    "Edit": "engine.interventions.intervention",
    "Intervention": "engine.interventions.intervention",
    "KnockOut": "engine.interventions.intervention",
    "Replacement": "engine.interventions.replacement",
    "Scale": "engine.interventions.replacement",
    "Steer": "engine.interventions.replacement",
    "ablations": "engine.interventions.ablation",
    "parts_of": "engine.interventions.ablation",
    "patches": "engine.interventions.patching",
    "site_nodes": "engine.interventions.patching",
    "knock_outs": "engine.interventions.patching",
    "path_patches": "engine.interventions.path_patching",
    "ablate": "engine.experiments",
    "patch": "engine.experiments",
    "knock_out": "engine.experiments",
    "get_metric": "engine.metrics",
    # methods and judgement
    "score": "methods.by_name",
    "list_methods": "methods.registry",
    "faithfulness": "evaluate.faithfulness",
    "faithfulness_curve": "evaluate.curve",
    "random_circuit": "evaluate.baselines",
    "MIB_SHARES": "evaluate.curve",
    "compare_curves": "evaluate.curve_comparison",
    "Subject": "evaluate.subject",
    "completeness": "evaluate.completeness",
    "minimality": "evaluate.minimality",
    "stability": "evaluate.stability",
    "specificity": "evaluate.specificity",
    "other_tasks": "evaluate.specificity",
    "cross_damage": "evaluate.specificity",
    "variance": "evaluate.variance",
    "along_the_path": "evaluate.along_the_path",
    "between_positions": "methods.between_positions",
    "neuron_clusters": "evaluate.neuron_clusters",
    "judge": "evaluate.trial",
    "JudgePlan": "evaluate.judge_plan",
    "Criteria": "circuits.verdicts.criteria",
    "recompute_verdicts": "circuits.verdicts.table",
    "equivalence": "circuits.verdicts.statistics",
    "independence": "circuits.verdicts.statistics",
    "edge_minimality": "circuits.verdicts.statistics",
    "save_evaluation": "circuits.files.evaluation_file",
    "load_evaluation": "circuits.files.evaluation_file",
    "head_roles": "evaluate.roles",
    # heads
    "portrait": "heads.portrait",
    "paint": "model.flow_painter.sample",
    "word_maps": "heads.word_maps",
    "map_fit": "heads.word_maps",
    "ablate_painter": "heads.painter_ablation",
    "GuidedState": "edits.guided_state",
    "Portrait": "heads.table",
    "load_portrait": "heads.table",
    "pick": "heads.head_choice",
    "look": "heads.text_look",
    "PromptLook": "heads.prompt_look",
    "look_at": "heads.looks",
    "PictureLook": "heads.picture_look",
    "patterns_of": "heads.observe",
    "replace_attention": "edits.pattern_worth",
    "texts_of_task": "edits.pattern_worth",
    "texts_of_corpus": "edits.pattern_worth",
    "mask_attention": "edits.mask_worth",
    "compare_with_exact": "evaluate.exact_sample",
    "ExactSample": "evaluate.exact_sample",
    "discover": "evaluate.found_circuit",
    # why an edge is there
    "why": "engine.explained_edge",
    "circuit_details": "evaluate.circuit_details",
    "direct_logits": "engine.direct_logits",
    "LogitParts": "circuits.logit_parts",
    "Reason": "circuits.reason",
    # known circuits and the bench of methods
    "list_truths": "model.known_circuits",
    "load_truth": "model.known_circuits",
    "edge_labels": "model.known_circuits",
    "node_labels": "model.known_circuits",
    "recovery": "evaluate.ground_truth",
    "bench_discovery": "bench.bench",
    "BenchSettings": "bench.settings:Settings",
    "load_bench": "bench.table",
    # papers measured again
    "replicate": "commands.replicate:replicate_job",
    "replicate_all": "commands.replicate",
    "list_replications": "papers.registry",
}
_ROOMS = {"edits", "masks"}  # public as a whole: wb.edits.Affine, wb.masks.window
__all__ = sorted([*_HOME, *_ROOMS])

if TYPE_CHECKING:
    from workbench.circuits.circuit import Circuit as Circuit
    from workbench.circuits.files import load_circuit as load_circuit
    from workbench.circuits.files import save_circuit as save_circuit
    from workbench.engine.of_task import paired_runs as paired_runs
    from workbench.evaluate.found_circuit import discover as discover
    from workbench.model.open import open_model as open_model


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
