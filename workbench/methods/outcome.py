"""Scores from a method's numbers, with what is known of the runs filled in."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.registry import Level


def graph_of(runs: PairedRuns, level: Level) -> Graph:
    """Return the computation graph whose edges or nodes are scored.

    Raises:
        ModelError: if the model has no edge level.
    """
    return runs.wiring.graph() if level == "edge" else Graph(runs.wiring.node_shape())


def refuse_flat(runs: PairedRuns, method: str) -> None:
    """Refuse a metric that is at its optimum on the clean run: its gradient there is zero, scores are rounding.

    Raises:
        OptionError: for KL to the clean run and its like.
    """
    if runs.metric.needs_clean:
        raise OptionError(
            f"{method} takes the gradient on the clean run, where {runs.metric.name} is flat: every score would be 0",
            hint="--method eap-ig, or --metric logit-difference",
        )


def result(
    runs: PairedRuns,
    values: np.ndarray,
    *,
    level: Level,
    method: str,
    source: str,
    unit: str | None = None,
    **fields: Any,
) -> Scores:
    """Return ``Scores`` of these values, in the metric's unit unless another is named; shapes as ``Scores`` says."""
    return Scores(
        graph=graph_of(runs, level),
        values=values,
        level=level,
        method=method,
        source=source,
        unit=runs.metric.unit if unit is None else unit,
        metric=runs.metric.name,
        n_pairs=runs.n_pairs,
        provenance=runs.provenance(),
        **fields,
    )
