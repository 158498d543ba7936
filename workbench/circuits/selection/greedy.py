"""Greedy: a circuit grown from the logits, edge by edge."""

from __future__ import annotations

import heapq

import numpy as np

from workbench.circuits.addresses import LOGITS, Node
from workbench.circuits.graph import Graph
from workbench.circuits.selection.rules import Index, Ranked, Ranking, rule


@rule("greedy", follows_edges=True)
def grow(scores: Ranked, n: int, by: Ranking, share: float | None) -> list[Index]:
    """Grown from the logits: again and again the best edge whose reader is already in the circuit."""
    rank = np.full(scores.values.shape, np.inf)
    for place, index in enumerate(scores.ranked(by)):
        rank[index] = place
    graph = scores.graph
    readers, starts, reads = readers_of(graph), graph.first_visible, graph.n_visible
    opened: set[int] = set()
    queue: list[tuple[float, int, int]] = []
    newly = [graph.target_index[LOGITS]]
    kept: list[Index] = []
    while len(kept) < n:
        for j in newly:
            opened.add(j)
            queue += [(rank[i, j], i, j) for i in range(starts[j], reads[j])]
        if newly:
            heapq.heapify(queue)
        if not queue:
            break
        _, i, j = heapq.heappop(queue)
        kept.append((i, j))
        newly = [t for t in readers[graph.sources[i]] if t not in opened]
    return kept


def readers_of(graph: Graph) -> dict[Node, list[int]]:
    """Return the targets whose reading can flow into a source: a head's q and its KV group's k and v, ..."""
    found: dict[Node, list[int]] = {source: [] for source in graph.sources}
    for j, target in enumerate(graph.targets):
        for node in graph.fed_by(target.writer):
            if node in found:
                found[node].append(j)
    return found
