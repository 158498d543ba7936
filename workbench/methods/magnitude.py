"""Magnitude: how much what a part writes differs between the two prompts. Nothing downstream is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.engine.batch import RunName
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.source_outputs import source_outputs
from workbench.methods.options.passes import Magnitude
from workbench.methods.outcome import graph_of, result
from workbench.methods.random_scores import base_shape, where_defined
from workbench.methods.registry import Level
from workbench.model.hooks import hook_name


def magnitude(
    runs: PairedRuns,
    options: Magnitude,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Size of the clean minus corrupted output of a part, summed over tokens: what changes, whether or not it is used.

    ``score(u) = mean over pairs of the sum over tokens of |clean[u] - corrupted[u]|``, the 2-norm over ``d_model``
    (for a neuron the size of its activation's change). Every edge out of ``u`` has the score of ``u``. Never negative,
    and blind to the metric: a part that writes much and matters nothing comes first.
    """
    graph = graph_of(runs, level)
    labels = runs.position_labels if per_position else ()
    base_shape(runs, graph, level)  # says so before any pass when there are no neurons
    total: np.ndarray | float = 0.0
    for done, batch in enumerate(runs.batches):
        token = runs.labels_of(batch) if labels else torch.zeros_like(batch.clean)
        total = total + sum_by_label(_sizes(runs, batch, graph, level), token, max(1, len(labels)))
        runs.release(batch)
        progress(done + 1, len(runs.batches), f"{len(batch)} pairs of {batch.n_tokens} tokens")
    values = np.asarray(total) / runs.n_pairs  # (label, source) or (label, layer, d_mlp)
    if level == "edge":
        values = np.repeat(values[:, :, None], len(graph.targets), axis=2)
    return result(
        runs,
        where_defined(values if labels else values[0], graph, level),
        level=level,
        method="magnitude",
        source="baseline",
        unit="activation norm",
        positions=labels,
        passes=2,
    )


@torch.no_grad()
def _sizes(runs: PairedRuns, batch: Batch, graph: Graph, level: Level) -> Float[Tensor, "pair pos *place"]:
    """Size of every source's difference, or of every neuron's, at every token."""
    if level != "neuron":
        here, there = (source_outputs(runs, batch, run, graph) for run in get_args(RunName))
        assert isinstance(here, Tensor) and isinstance(there, Tensor), (
            "towers are scored by the edges that cross"
        )
        return (here.double() - there.double()).norm(dim=-1)
    layers = [n for n in range(graph.shape.n_layers) if graph.shape.has_mlp(n)]
    names = {n: hook_name("neurons", n) for n in layers}
    clean, corrupted = (runs.activations(batch, run, list(names.values())) for run in get_args(RunName))
    found = torch.zeros(*batch.clean.shape, graph.shape.n_layers, runs.wiring.d_mlp, dtype=torch.float64)
    for n, name in names.items():
        found[:, :, n] = (clean[name].double() - corrupted[name].double()).abs().cpu()
    return found


def sum_by_label(
    values: Float[Tensor, "pair pos *place"], labels: Int[Tensor, "pair pos"], n_labels: int
) -> np.ndarray:
    """Return ``(label, *place)``: sums over all tokens of each label, in float64."""
    flat, values = labels.flatten().to(values.device), values.double().flatten(0, 1)
    return values.new_zeros(n_labels, *values.shape[1:]).index_add_(0, flat, values).cpu().numpy()
