"""Attribution patching (AtP): a first-order estimate of activation patching for every node or neuron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import AttributionPatching, ends_cost
from workbench.methods.points import ends
from workbench.methods.registry import Level


def attribution_patching(
    runs: PairedRuns,
    options: AttributionPatching,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Attribution patching: clean gradient times the clean minus corrupted difference, for every node.

    ``score(n) = sum over positions and dimensions of (clean - corrupted) * d metric / d n, at the clean run``.
    Exact where the model is affine between the two runs.

    Source:
        Nanda 2023; Syed, Rager and Conmy 2023, arXiv:2310.10348.
    """
    return gradient_scores(
        runs,
        Recipe(points=lambda graph: ends(options.at), backward=options.backward, ablation=options.ablation),
        level=level,
        method="attribution-patching",
        source="Nanda 2023",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
