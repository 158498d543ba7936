"""Position-aware edge attribution patching (PEAP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.spans import spans_of
from workbench.methods.attribution import Recipe, attribute, gradient_scores
from workbench.methods.options.gradients import ends_cost
from workbench.methods.options.positions import PEAP
from workbench.methods.outcome import refuse_flat, result
from workbench.methods.points import ends
from workbench.methods.registry import Level


def peap(
    runs: PairedRuns,
    options: PEAP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """EAP by spans of the prompt, which do not cancel each other (position-aware EAP).

    ``score[u, v] = sign * sum over spans |mean over pairs of the sum over the span of difference[u] * gradient[v]|``
    with the sign of the sum over spans. With ``per_position`` every named position keeps a score of its own. What a
    head carries from one position to another is in `between_positions`.

    Returns:
        Scores in the metric's unit; positive supports the behavior.

    Raises:
        OptionError: for spans other than named positions where each position is to have a score of its own.

    Source:
        arXiv:2502.04577, and the code technion-cs-nlp/PEAP.
    """
    recipe = Recipe(points=lambda graph: ends(options.at), ablation=options.ablation)
    passes = ends_cost(options, None, level).passes
    if per_position:
        if options.spans == "tokens":
            raise OptionError(
                "a circuit at positions needs positions that all prompts name",
                hint="leave out --option spans=tokens, or --per-position",
            )
        return gradient_scores(
            runs,
            recipe,
            level=level,
            method="peap",
            source="arXiv:2502.04577",
            options=asdict(options) | {"spans": "positions"},
            passes=passes,
            per_position=True,
            progress=progress,
        )
    if options.at == "clean":
        refuse_flat(runs, "peap")
    tally = attribute(
        runs,
        recipe,
        ends(options.at),
        level=level,
        spans=spans_of(runs, options.spans),
        progress=progress,
    )
    return result(
        runs,
        together(tally.mean(), options.together),
        level=level,
        method="peap",
        source="arXiv:2502.04577",
        options=asdict(options),
        passes=passes,
    )


def together(by_span: np.ndarray, how: str) -> np.ndarray:
    """Return one score for each edge from those of its spans, the first axis: their sum, or the sum of their sizes
    with the sign of their sum.

    Example:
        >>> import numpy as np
        >>> together(np.array([[3.0], [-1.0]]), "absolute"), together(np.array([[3.0], [-1.0]]), "sum")
        (array([4.]), array([2.]))
    """
    total = by_span.sum(0)
    if how == "sum":
        return total
    return np.where(total < 0, -1.0, 1.0) * np.abs(by_span).sum(0)
