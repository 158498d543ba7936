"""Exact effects: each node, edge or neuron is patched by itself and the metric measured. The truth others estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.circuits.selection.rules import Index
from workbench.core.progress import silent
from workbench.core.run_record import digest_of
from workbench.engine.distribute import WorkPart
from workbench.engine.edges import StackOutputs, ablate_edges, copies_that_fit
from workbench.engine.interventions.ablation import ablations
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reference import reference_outputs
from workbench.engine.source_outputs import changing
from workbench.engine.sweep import sweep
from workbench.methods.exact_parts import neuron_parts, node_parts, part_drops
from workbench.methods.options.passes import Exact
from workbench.methods.outcome import graph_of, result
from workbench.methods.random_scores import base_shape, where_defined
from workbench.methods.registry import Level

_MOST_KEPT = 10**8  # numbers; drops of single pairs beyond this (0.8 GB) are not kept, the mean is the same


def exact(
    runs: PairedRuns,
    options: Exact,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """The exact drop of the metric when one edge, node or neuron alone takes its corrupted value.

    ``score = F(clean) - F(clean with only this replaced)``, a mean over pairs; per position, replaced at the tokens
    of one label only (these effects need not add up to that of all positions together).
    """
    graph = graph_of(runs, level)
    shape = base_shape(runs, graph, level)
    n_labels = len(runs.position_labels) if per_position else 1
    if level == "node" and not per_position:
        drops = _whole_nodes(runs, graph, options.ablation, progress)
    elif level == "edge":
        drops = _edges(runs, graph, options.ablation, per_position, progress)
    else:
        parts = node_parts(graph) if level == "node" else neuron_parts(runs, graph)
        drops = part_drops(
            runs, parts, shape, ablation=options.ablation, per_position=per_position, progress=progress
        )
    values, per_pair = _mean(runs, drops, (n_labels, *shape) if per_position else shape)
    count = {"edge": graph.n_edges, "node": len(graph.sources)}.get(level, int(np.prod(shape)))
    return result(
        runs,
        where_defined(values, graph, level),
        level=level,
        method="exact",
        source="arXiv:2304.14997",
        options=asdict(options),
        passes=2 + count * n_labels,
        positions=runs.position_labels if per_position else (),
        per_pair=None if per_pair is None else where_defined(per_pair, graph, level),
    )


def edge_effects(
    runs: PairedRuns,
    scores: Scores,
    indices: Sequence[Index],
    *,
    ablation: Ablation = "resample",
    progress: Callable[..., None] = silent,
) -> Float[np.ndarray, " edge"]:
    """Measure the exact effect of some edges: those at ``indices`` of ``scores.values``, each once.

    Returns:
        ``(edge,)`` mean drops of the metric over the pairs, in its unit; positive supports the behavior. The same
        numbers as method ``exact`` gives.
    """
    wanted = np.zeros((max(1, len(scores.positions)), *scores.graph.edge_mask.shape), dtype=bool)
    at = [index if scores.positions else (0, *index) for index in indices]
    wanted[tuple(np.array(at).T)] = True
    per_position = bool(scores.positions)
    with _own_parts(runs, wanted, ablation):
        drops = _edges(runs, scores.graph, ablation, per_position, progress, wanted)
        values, _ = _mean(runs, drops, scores.values.shape)
    return np.array([values[index] for index in indices])


def effects_of_pairs(
    runs: PairedRuns, graph: Graph, indices: Sequence[tuple[int, int]], *, ablation: Ablation = "resample"
) -> Float[np.ndarray, "edge pair"]:
    """Measure the exact effect of some edges on every pair.

    Args:
        indices: Places ``(source, target)`` of the graph.

    Returns:
        ``(edge, pair)`` drops of the metric in its unit; positive supports the behavior.
    """
    wanted = np.zeros((1, *graph.edge_mask.shape), dtype=bool)
    found = np.zeros((len(indices), runs.n_pairs))
    if not len(indices):
        return found
    rows, columns = np.array(indices).T
    wanted[0, rows, columns] = True
    for batch, drops in _edges(runs, graph, ablation, False, silent, wanted):
        found[:, batch.index] = drops[:, rows, columns].T
    return found


@contextmanager
def _own_parts(runs: PairedRuns, wanted: Bool[np.ndarray, "label source target"], ablation: Ablation):
    """Parts of these edges alone have names of their own, so that a search that goes on finds them again."""
    before = runs.division
    question = digest_of({"edges": np.argwhere(wanted).tolist(), "ablation": ablation})
    runs.division = before.asked(question, before.store)
    try:
        yield
    finally:
        runs.division = before


def _mean(
    runs: PairedRuns, drops: Iterator[tuple[Batch, np.ndarray]], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean over pairs, and the drops of every pair where they are not too many."""
    total = np.zeros(shape)
    small = runs.n_pairs * int(np.prod(shape)) <= _MOST_KEPT
    every = np.zeros((runs.n_pairs, *shape)) if small else None
    for batch, found in drops:
        total += found.sum(0)
        if every is not None:
            every[batch.index] = found
    return total / runs.n_pairs, every


def _whole_nodes(
    runs: PairedRuns, graph: Graph, ablation: Ablation, progress: Callable[..., None]
) -> Iterator[tuple[Batch, np.ndarray]]:
    """``(pair, source)`` drops."""
    rows = ablations([(node,) for node in graph.sources], ablation)
    effects = sweep(runs, rows, kind="exact", progress=progress).per_pair.T
    for batch in runs.batches:
        yield batch, effects[batch.index]


def _edges(
    runs: PairedRuns,
    graph: Graph,
    ablation: Ablation,
    per_position: bool,
    progress: Callable[..., None],
    wanted: Bool[np.ndarray, "label source target"] | None = None,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """``(pair, *label, source, target)`` drops of one batch after the other; 0 where an edge is not ``wanted``."""
    steps, n_labels = graph.steps, len(runs.position_labels) if per_position else 1
    layers = [n for n, (_, into) in enumerate(steps) if wanted is None or wanted[..., list(into)].any()]
    asked = graph.edge_mask[None] if wanted is None else wanted & graph.edge_mask
    name = "edges" if wanted is None else "some-edges"
    known: dict[int, tuple[StackOutputs, np.ndarray]] = {}  # of the batch at hand

    def compute(part: WorkPart) -> np.ndarray:
        batch, layer = runs.batches[part.batch], int(part.key[-3:])
        if part.batch not in known:
            known.clear()
            runs.release_others(batch)
            reference = reference_outputs(runs, batch, graph, ablation)
            known[part.batch] = reference, changing(runs, batch, graph, reference, per_position=per_position)
        reference, differs = known[part.batch]
        found = np.zeros((len(batch), len(differs), *graph.edge_mask.shape))
        tested = differs[:, :, None] & asked
        _edges_into(runs, batch, graph, steps[layer], reference, tested, per_position, found)
        return found[..., list(steps[layer][1])]

    parts = [
        WorkPart(
            key=f"{name}-b{b:05d}-l{layer:03d}",
            shape=(len(batch), n_labels, len(graph.sources), len(steps[layer][1])),
            batch=b,
            cost=float(len(batch) * batch.n_tokens * len(steps[layer][1]) * (layer + 1)),
            what=f"edges into layer {layer}",
        )
        for b, batch in enumerate(runs.batches)
        for layer in layers
    ]
    values = zip(parts, runs.division.values(parts, compute), strict=True)
    for b, batch in enumerate(runs.batches):
        found = np.zeros((len(batch), n_labels, *graph.edge_mask.shape))
        for n, layer in enumerate(layers):
            part, into = next(values)
            found[..., list(steps[layer][1])] = into
            progress(b * len(layers) + n + 1, len(parts), part.what)
        runs.release(batch)
        yield batch, found if per_position else found[:, 0]


@torch.no_grad()
def _edges_into(
    runs: PairedRuns,
    batch: Batch,
    graph: Graph,
    step: tuple[int, tuple[int, ...]],
    reference: StackOutputs,
    tested: Bool[np.ndarray, "label source target"],
    per_position: bool,
    found: Float[np.ndarray, "pair label source target"],
) -> None:
    """Write down the drops of the edges into the targets of one step."""
    start, into = step
    columns = list(into)
    edges = [(n, i, columns[k]) for n, i, k in np.argwhere(tested[..., columns]).tolist()]
    clean = runs.measure(batch, runs.clean_output(batch))
    size = copies_that_fit(runs, batch, graph, start=start)
    labels = runs.labels_of(batch) if per_position else None
    for k in range(0, len(edges), size):
        chunk = edges[k : k + size]
        masks = _single(chunk, len(tested), graph).to(runs.device)
        masks = masks if per_position else masks[:, 0]
        values = ablate_edges(runs, batch, graph, masks, reference=reference, start=start, labels=labels)
        drops = (runs.metric.direction * (clean[None] - values)).double().cpu().numpy()
        for (n, i, j), drop in zip(chunk, drops, strict=True):
            found[:, n, i, j] = drop


def _single(
    edges: list[tuple[int, int, int]], n_labels: int, graph: Graph
) -> Bool[Tensor, "copy label source target"]:
    """A mask for each edge, True there alone."""
    masks = torch.zeros(len(edges), n_labels, *graph.edge_mask.shape, dtype=torch.bool)
    for c, edge in enumerate(edges):
        masks[(c, *edge)] = True
    return masks
