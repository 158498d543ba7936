"""Relevance patching (RelP): attribution with the coefficients of relevance propagation for gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import RelP, ends_cost
from workbench.methods.points import ends
from workbench.methods.registry import Level


def relp(
    runs: PairedRuns,
    options: RelP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Relevance patching: difference times the gradient of a model made linear around the clean run.

    Norms have a constant scale, activations the slope ``f(x) / x``, and each factor of a gated product gets half.

    Source:
        Jafari, Eberle, Khakzar and Nanda 2025, arXiv:2508.21258.
    """
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: ends(options.at),
            backward="relp" if options.attention == "gradient" else "cp-lrp",
            ablation=options.ablation,
        ),
        level=level,
        method="relp",
        source="arXiv:2508.21258",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
