"""GIM: attribution with a backward pass in which parts that share an effect each get their share of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.after_eap_ig import GIM
from workbench.methods.options.gradients import ends_cost
from workbench.methods.points import ends
from workbench.methods.registry import Level


def gim(
    runs: PairedRuns,
    options: GIM,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Difference times a gradient that a saturated softmax does not stop (gradient interaction modifications).

    On the way back the softmax has temperature 2, norms have a constant scale, queries and keys get a quarter of the
    gradient, values and both factors of a gated product half. Activations keep their derivative.

    Returns:
        Scores in the metric's unit; positive supports the behavior.

    Source:
        arXiv:2505.17630, and the package gim-explain 0.1.0.
    """
    return gradient_scores(
        runs,
        Recipe(points=lambda graph: ends(options.at), backward="gim", ablation=options.ablation),
        level=level,
        method="gim",
        source="arXiv:2505.17630",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
