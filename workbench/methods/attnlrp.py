"""AttnLRP: attribution with relevance propagated through attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import AttnLRP, ends_cost
from workbench.methods.points import ends
from workbench.methods.registry import Level


def attnlrp(
    runs: PairedRuns,
    options: AttnLRP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Difference times the coefficients of attention-aware relevance propagation (AttnLRP or CP-LRP).

    As ``relp``, and of the gradients in attention half goes to the values, a quarter to queries and keys each.

    Source:
        Achtibat et al. 2024, arXiv:2402.05602; CP-LRP: Ali et al. 2022, arXiv:2202.07304.
    """
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: ends(options.at),
            backward="attnlrp" if options.softmax == "attnlrp" else "cp-lrp",
            ablation=options.ablation,
        ),
        level=level,
        method="attnlrp",
        source="arXiv:2402.05602",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
