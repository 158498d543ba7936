"""Edge attribution patching (EAP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import EAP, ends_cost
from workbench.methods.points import ends
from workbench.methods.registry import Level


def eap(
    runs: PairedRuns,
    options: EAP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Edge attribution patching: clean gradient times the clean minus corrupted difference.

    ``score[u, v] = sum over positions and dimensions of (clean[u] - corrupted[u]) * d metric / d input[v]``

    Source:
        Syed, Rager and Conmy 2023, arXiv:2310.10348.
    """
    return gradient_scores(
        runs,
        Recipe(points=lambda graph: ends(options.at), backward=options.backward, ablation=options.ablation),
        level=level,
        method="eap",
        source="arXiv:2310.10348",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
