"""Random circuits to compare with: what a circuit of this size keeps by chance."""

from __future__ import annotations

import numpy as np

from workbench.circuit import Circuit
from workbench.graph import Graph
from workbench.names import INPUT, LOGITS, Node
from workbench.scores import Level


def random_circuit(graph: Graph, size: int, rng: np.random.Generator, *, level: Level = "edge") -> Circuit:
    """A random circuit of ``size`` edges (or nodes), connected from input to logits.

    Edge level: random paths from the logits back to the input are joined until the size is reached; the last
    path is only added when it fits, so a circuit can be a little smaller, never larger.

    Source:
        Sampling by paths as in Shi et al. 2024, arXiv:2410.13032.
    """
    if level == "node":
        others = list(graph.sources[1:])
        picked = rng.permutation(len(others))[:size]
        nodes = {INPUT: 0.0, LOGITS: 0.0} | {others[i]: 0.0 for i in sorted(picked)}
        return Circuit.build(shape=graph.shape, nodes=nodes, edges={}, level="node", method="random")
    if size >= graph.n_edges:
        every = {(e.source, e.target): 0.0 for e in graph.edges()}
        return Circuit.build(shape=graph.shape, nodes={}, edges=every, method="random")
    edges: set[tuple[int, int]] = set()
    feeds = _inputs(graph)
    misses = 0
    while len(edges) < size and misses < 200:
        path = set(_path(graph, feeds, rng))
        if len(edges | path) <= size:
            misses = 0 if path - edges else misses + 1
            edges |= path
        else:
            misses += 1
    scored = {(graph.sources[i], graph.targets[j]): 0.0 for i, j in sorted(edges)}
    return Circuit.build(shape=graph.shape, nodes={}, edges=scored, method="random")


def _inputs(graph: Graph) -> dict[Node, list[int]]:
    """Targets that a source's writing depends on: q, k, v of a head (or its KV group's), an MLP's input."""
    found: dict[Node, list[int]] = {s: [] for s in graph.sources}
    linked: dict[Node, list[Node]] = {}
    for before, after in graph.links:
        linked.setdefault(after, []).append(before)
    for source in graph.sources:
        owners, todo = set(), [source]
        while todo:
            node = todo.pop()
            owners.add(node)
            todo += linked.get(node, [])
        found[source] = [j for j, t in enumerate(graph.targets) if t.writer in owners]
    return found


def _path(graph: Graph, feeds: dict[Node, list[int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Edges of one random walk from the logits back to the input."""
    target, path = len(graph.targets) - 1, []
    while True:
        source = int(rng.integers(graph.n_visible[target]))
        path.append((source, target))
        if source == 0:
            return path
        choices = feeds[graph.sources[source]]
        target = choices[int(rng.integers(len(choices)))]
