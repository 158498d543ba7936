"""What to compare a circuit with: random circuits of its size, random paths, other heads of its layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.circuits.addresses import INPUT, LOGITS, Edge, Node, neuron
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.circuits.scores import Level, Scores
from workbench.circuits.selection.rules import LEVELS
from workbench.core.errors import expect_word

_Step = tuple[int, int, int]  # position, source, target


def random_circuit(
    graph: Graph,
    size: int,
    rng: np.random.Generator,
    *,
    level: Level = "edge",
    positions: Sequence[str] = (),
    d_mlp: int = 0,
) -> Circuit:
    """Draw a random circuit of ``size`` edges (nodes, neurons); edges are connected from input to logits.

    Edge level: random paths from the logits back to the input are joined until the size is reached; the last
    path is only added when it fits, so a circuit can be a little smaller, never larger.

    Args:
        positions: Labels of positions; with them every edge or node stands at one, and a path goes from a head
            to another position through its keys and values.
        d_mlp: Hidden units of each MLP, for the neuron level.

    Returns:
        A circuit without scores.

    Source:
        Sampling by paths as in Shi et al. 2024, arXiv:2410.13032.

    Example:
        >>> import workbench as wb
        >>> import numpy as np
        >>> graph = wb.load_circuit("published:ioi").graph
        >>> len(wb.random_circuit(graph, 20, np.random.default_rng(0)))
        20
    """
    expect_word("level", level, LEVELS)
    places: list[str | None] = list(positions) or [None]
    if level != "edge":
        others = list(graph.sources[1:]) if level == "node" else _neurons(graph, d_mlp)
        others = [node.at(place) for place in places for node in others]
        nodes = {INPUT: 0.0, LOGITS: 0.0}
        nodes |= {others[i]: 0.0 for i in sorted(rng.permutation(len(others))[:size])}
        return Circuit.build(shape=graph.shape, nodes=nodes, edges={}, level=level, method="random")
    edges: set[_Step] = set()
    if size >= graph.n_edges * len(places):
        edges = {(p, int(i), int(j)) for p in range(len(places)) for i, j in np.argwhere(graph.edge_mask)}
    feeds, misses, last = _inputs(graph), 0, places.index("end") if "end" in places else 0
    while len(edges) < size and misses < 200:
        path = set(_path(graph, feeds, len(places), last, rng))
        if len(edges | path) <= size:
            misses = 0 if path - edges else misses + 1
            edges |= path
        else:
            misses += 1
    scored = {
        (graph.sources[i].at(places[p]), graph.targets[j].at(places[p])): 0.0 for p, i, j in sorted(edges)
    }
    return Circuit.build(shape=graph.shape, nodes={}, edges=scored, method="random")


def random_like(scores: Scores, size: int, rng: np.random.Generator) -> Circuit:
    """Return a random circuit of the kind that is selected from these scores."""
    d_mlp = scores.values.shape[-1] if scores.level == "neuron" else 0
    return random_circuit(
        scores.graph, size, rng, level=scores.level, positions=scores.positions, d_mlp=d_mlp
    )


def _neurons(graph: Graph, d_mlp: int) -> list[Node]:
    layers = [n for n in range(graph.shape.n_layers) if graph.shape.has_mlp(n)]
    return [neuron(layer, unit) for layer in layers for unit in range(d_mlp)]


def random_path(graph: Graph, rng: np.random.Generator, *, positions: Sequence[str] = ()) -> tuple[Edge, ...]:
    """Return the edges of one random path from the input to the logits, last edge first, at positions where there
    are.
    """
    places: list[str | None] = list(positions) or [None]
    last = places.index("end") if "end" in places else 0
    steps = _path(graph, _inputs(graph), len(places), last, rng)
    return tuple(Edge(graph.sources[i].at(places[p]), graph.targets[j].at(places[p])) for p, i, j in steps)


def matched_heads(
    graph: Graph, heads: Sequence[Node], rng: np.random.Generator
) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Return some of these heads, and as many others of the same layers.

    Where a layer has fewer heads outside than inside, as many of those inside are drawn: both groups always have the
    same number in each layer. Both are empty where no layer has heads of both kinds.
    """
    own: list[Node] = []
    other: list[Node] = []
    for tower, layer in sorted({(head.tower or "", head.depth) for head in heads}):
        inside = [head for head in heads if (head.tower or "", head.layer) == (tower, layer)]
        there = [s for s in graph.sources if s.kind == "head" and (s.tower or "", s.layer) == (tower, layer)]
        outside = [s for s in there if s not in inside]
        n = min(len(inside), len(outside))
        own += [inside[i] for i in np.sort(rng.permutation(len(inside))[:n])]
        other += [outside[i] for i in np.sort(rng.permutation(len(outside))[:n])]
    return tuple(own), tuple(other)


def _inputs(graph: Graph) -> dict[Node, list[int]]:
    """Targets that a source's writing depends on: q, k, v of a head (or its KV group's), an MLP's input."""
    found: dict[Node, list[int]] = {s: [] for s in graph.sources}
    for j, target in enumerate(graph.targets):
        for node in graph.fed_by(target.writer):
            if node in found:
                found[node].append(j)
    return found


def _path(
    graph: Graph, feeds: dict[Node, list[int]], n_places: int, last: int, rng: np.random.Generator
) -> list[_Step]:
    """One random walk from the logits at position ``last`` back to the input: (position, source, target)."""
    target, path, place = len(graph.targets) - 1, [], last
    while True:
        source = int(rng.integers(graph.first_visible[target], graph.n_visible[target]))
        path.append((place, source, target))
        if graph.sources[source].kind == "input":
            return path
        choices = feeds[graph.sources[source]]
        target = choices[int(rng.integers(len(choices)))]
        if graph.targets[target].slot in ("k", "v"):
            # a key does not stand after its query; where tokens of the rest stand is not known
            earlier = [*range(min(place + 1, n_places - 1)), n_places - 1]
            place = earlier[int(rng.integers(len(earlier)))]
