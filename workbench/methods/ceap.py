"""CEAP: edge attribution by conductance, complete at what is read where EAP-IG is complete at the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.after_eap_ig import CEAP
from workbench.methods.points import Point, quadrature
from workbench.methods.registry import Level


def ceap(
    runs: PairedRuns,
    options: CEAP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Conductance: along the line of inputs, the gradient times what a part changes there, summed.

    ``score(u -> v) = sum_k (z_u(x_k+1) - z_u(x_k)) . dF/d input(v) at x_k`` with ``x_k`` the k-th of ``steps`` points
    from the corrupted to the clean input. As ``steps`` grows, the edges into ``logits`` sum to metric(clean) -
    metric(corrupted). A branch whose change moves the metric more gets the larger score, which EAP-IG does not grant:
    it multiplies the mean gradient with the whole difference, wherever on the line the branch changed.

    Returns:
        Scores in the metric's unit; positive supports the behavior.

    Source:
        arXiv:2606.16920.
    """
    alphas = quadrature(options.steps, "left")
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: [Point(alpha=alpha) for alpha in alphas],
            backward=options.backward,
            conductance=True,
        ),
        level=level,
        method="ceap",
        source="arXiv:2606.16920",
        options={**asdict(options), "path": "input embeddings"},
        passes=2 + 2 * options.steps,
        per_position=per_position,
        progress=progress,
    )
