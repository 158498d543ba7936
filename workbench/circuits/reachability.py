"""Which parts of a circuit are reached from the input and reach the logits."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Edge, Node
from workbench.circuits.graph import Graph


def reached(ways: Iterable[tuple[str, str]], kind: str) -> set[str]:
    """Nodes reachable from ``input`` (or ``logits``) at any position, these included."""
    following: dict[str, list[str]] = {}
    for before, after in ways:
        following.setdefault(before, []).append(after)
    starts = [a for a in following if a == kind or a.startswith(f"{kind}@")]
    found = set(starts)
    while starts:
        starts = [n for at in starts for n in following.get(at, ()) if n not in found]
        found.update(starts)
    return found


def crossings(graph: Graph, edges: Iterable[Edge]) -> list[tuple[str, str]]:
    """Ways between positions: what a head's key or value reads at its own position serves queries at others.

    An edge of two positions (``input@2->a0.h0<v>@4``) says itself where its head writes.
    """
    writes: dict[Node, set[Node]] = {}
    for edge in edges:
        if edge.source.position is not None:
            writes.setdefault(edge.source.at(None), set()).add(edge.source)
    ways: dict[tuple[str, str], None] = {}
    for edge in edges if writes else ():
        alone = edge.source.position == edge.target.position is not None
        if not alone or edge.target.slot not in ("k", "v"):
            continue
        for writer in graph.fed_by(edge.target.writer):
            ways |= {(str(edge.target.host), str(node)): None for node in writes.get(writer, ())}
    return sorted(ways)


def links(graph: Graph, found: dict[Node, float | None]) -> list[tuple[Node, Node]]:
    """Join KV groups to their heads, and heads to their post-normed layer, at every position there is.

    A link needs both ends, except that a head between its KV group and its layer's writer is put into
    ``found``: what the group reads reaches the writer only through it.
    """
    made = []
    for position in dict.fromkeys(node.position for node in found) if graph.links else ():
        links = [(before.at(position), after.at(position)) for before, after in graph.links]
        fed = {after for before, after in links if before.kind == "group" and before in found}
        for before, after in links:
            if before in fed and after.kind == "attn" and after in found:
                found.setdefault(before, None)
        made += [link for link in links if link[0] in found and link[1] in found]
    return sorted(made, key=lambda link: [names.order(end, graph.shape.n_layers) for end in link])
