"""EAP with gradients integrated over activations, one layer output at a time (EAP-IG activations)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import IntegratedActivations, activations_cost
from workbench.methods.outcome import graph_of
from workbench.methods.registry import Level


def eap_ig_activations(
    runs: PairedRuns,
    options: IntegratedActivations,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """EAP with the gradient averaged over runs in which one layer's output lies between reference and clean.

    The input, the heads of each layer and each MLP in turn are put at points of the line from their reference to their
    clean value. Gradients at all targets are averaged over all these runs, so the unit is the metric's.

    Source:
        Marks et al. 2024, arXiv:2403.19647, in the form of Hanna, Pezzelle and Belinkov 2024.
    """
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: options.points(graph, level),
            backward=options.backward,
            ablation=options.ablation,
        ),
        level=level,
        method="eap-ig-activations",
        source="arXiv:2403.19647",
        options={**asdict(options), "path": "layer outputs, one at a time"},
        passes=activations_cost(options, graph_of(runs, level), level).passes,
        per_position=per_position,
        progress=progress,
    )
