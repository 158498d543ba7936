"""EAP with integrated gradients over the input (EAP-IG)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import Integrated, integrated_cost
from workbench.methods.points import Point, quadrature
from workbench.methods.registry import Level


def eap_ig(
    runs: PairedRuns,
    options: Integrated,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """EAP with the gradient averaged along the straight line of inputs from corrupted to clean.

    The path is that of the input embeddings; activation differences are between the two endpoint runs. As
    ``steps`` grows, the scores of the edges leaving ``input`` sum to metric(clean) - metric(corrupted).

    Source:
        Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806.
    """
    alphas = quadrature(options.steps, options.rule)
    return gradient_scores(
        runs,
        Recipe(points=lambda graph: [Point(alpha=alpha) for alpha in alphas], backward=options.backward),
        level=level,
        method="eap-ig",
        source="arXiv:2403.17806",
        options={**asdict(options), "path": "input embeddings"},
        passes=integrated_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
