"""Random scores: what a ranking is worth that knows nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import ModelError
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.options.passes import Random
from workbench.methods.outcome import graph_of, result
from workbench.methods.registry import Level


def random_scores(
    runs: PairedRuns,
    options: Random,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Uniform random numbers in [0, 1): the floor that every method has to beat.

    They depend on the seed and on the architecture's shape, not on weights or prompts; runs no pass.
    """
    labels = runs.position_labels if per_position else ()
    graph = graph_of(runs, level)
    shape = (len(labels),) * bool(labels) + base_shape(runs, graph, level)
    values = np.random.default_rng(options.seed).random(shape)
    progress(1, 1, "random numbers")
    return result(
        runs,
        where_defined(values, graph, level),
        level=level,
        method="random",
        source="baseline",
        unit="random",
        options=asdict(options),
        positions=labels,
    )


def base_shape(runs: PairedRuns, graph: Graph, level: Level) -> tuple[int, ...]:
    """Return the shape of scores at a level, without positions.

    Raises:
        ModelError: at neuron level, when hidden units of the MLPs cannot be seen.
    """
    if level == "edge":
        return graph.edge_mask.shape
    if level == "node":
        return (len(graph.sources),)
    if not runs.wiring.d_mlp:
        raise ModelError(
            "no neurons here: the model has no MLPs, or their hidden units cannot be read",
            hint="--level node",
        )
    return (graph.shape.n_layers, runs.wiring.d_mlp)


def where_defined(values: np.ndarray, graph: Graph, level: Level) -> np.ndarray:
    """Return the same with NaN where no edge exists, or where a layer has no MLP."""
    values = values.astype(np.float64)
    if level == "edge":
        values[..., ~graph.edge_mask] = np.nan
    if level == "neuron":
        values[..., [n for n in range(graph.shape.n_layers) if not graph.shape.has_mlp(n)], :] = np.nan
    return values
