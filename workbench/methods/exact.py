"""Exact effects: each node or edge is patched by itself and the metric measured. The truth others estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from workbench.graph import Graph
from workbench.interventions.ablation import ablations
from workbench.methods.registry import Cost, Level, method
from workbench.methods.results import graph_of, result
from workbench.scores import Scores
from workbench.sweep.edges import ablate_edges, copies_that_fit, source_outputs
from workbench.sweep.run import sweep
from workbench.sweep.runs import Batch, PairedRuns


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Exact patching has no options: noising with the corrupted partner's value."""


def _cost(options: Exact, graph: Graph, level: Level) -> Cost:
    return Cost(forward=2 + (graph.n_edges if level == "edge" else len(graph.sources)))


@method(
    "exact", levels=("edge", "node"), source="Conmy et al. 2023, arXiv:2304.14997", options=Exact, cost=_cost
)
def exact(runs: PairedRuns, options: Exact, *, level: Level, progress: Callable[..., None]) -> Scores:
    """The exact drop of the metric when one edge or node alone takes its corrupted value."""
    graph = graph_of(runs, level)
    measure = _nodes if level == "node" else _edges
    return result(
        runs,
        measure(runs, graph, progress),
        level=level,
        method="exact",
        source="arXiv:2304.14997",
        options=asdict(options),
        passes=_cost(options, graph, level).passes,
    )


def _nodes(runs: PairedRuns, graph: Graph, progress: Callable[..., None]) -> np.ndarray:
    """``(source,)`` mean drops."""
    return sweep(runs, ablations([(node,) for node in graph.sources]), kind="exact", progress=progress).mean


def _edges(runs: PairedRuns, graph: Graph, progress: Callable[..., None]) -> np.ndarray:
    """``(source, target)`` mean drops, NaN where no edge is."""
    total = np.zeros(graph.edge_mask.shape)
    layers = range(graph.shape.n_layers + 1)
    for b, batch in enumerate(runs.batches):
        for layer in layers:
            total += _edges_into(runs, batch, graph, layer)
            progress(
                b * len(layers) + layer + 1, len(runs.batches) * len(layers), f"edges into layer {layer}"
            )
        runs.release(batch)
    return np.where(graph.edge_mask, total / runs.n_pairs, np.nan)


@torch.no_grad()
def _edges_into(runs: PairedRuns, batch: Batch, graph: Graph, layer: int) -> np.ndarray:
    """``(source, target)`` summed drops for the edges into one layer (the logits are the layer after the last)."""
    last = graph.shape.n_layers
    into = [j for j, t in enumerate(graph.targets) if (last if t.layer is None else t.layer) == layer]
    edges = [(i, j) for j in into for i in range(int(graph.n_visible[j]))]
    found = np.zeros(graph.edge_mask.shape)
    reference = source_outputs(runs, batch, "corrupted", graph)
    clean = runs.measure(batch, runs.clean_output(batch))
    size = copies_that_fit(runs, batch, graph)
    for k in range(0, len(edges), size):
        chunk = edges[k : k + size]
        masks = torch.zeros(len(chunk), *graph.edge_mask.shape, dtype=torch.bool, device=runs.device)
        for c, (i, j) in enumerate(chunk):
            masks[c, i, j] = True
        values = ablate_edges(runs, batch, graph, masks, reference=reference, start=min(layer, last - 1))
        drop = runs.metric.direction * (clean[None] - values)
        for (i, j), d in zip(chunk, drop.double().sum(1).tolist(), strict=True):
            found[i, j] = d
    return found
