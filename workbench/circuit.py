"""A circuit: the nodes and edges claimed to do the work, as a networkx graph with scores and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import networkx as nx

from workbench import names
from workbench.errors import CircuitError, OptionError
from workbench.graph import CONVENTION, Graph, GraphShape
from workbench.names import INPUT, LOGITS, Edge, Node, parse_edge, parse_node

# Field names that a circuit file carries besides its graph; io/ writes and reads exactly these.
FIELDS = (
    "level",
    "method",
    "unit",
    "metric",
    "task",
    "model",
    "selection",
    "evaluation",
    "prompt",
    "provenance",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """Nodes and edges claimed to be enough for a behavior. Every operation returns a new circuit.

    ``network`` is a frozen ``networkx.MultiDiGraph``. Its nodes are addresses (``a9.h9``) with attributes ``kind``,
    ``layer``, ``head``, ``position``, ``score``, ``role``; its edges are keyed by the reading input (``q``, ``k``,
    ``v``, ``in``) with ``score``. KV groups and post-normed layers are joined to their heads by edges with
    ``link=True``, which are no part of the circuit's size.

    Attributes:
        level: ``edge`` (everything but these edges is ablated) or ``node`` (everything but these nodes is).
        selection: How it was chosen: rule, nominal size, number of candidates.
        prompt: Tokens of an example prompt, for views.
    """

    shape: GraphShape
    network: nx.MultiDiGraph
    level: Literal["edge", "node"] = "edge"
    method: str = ""
    unit: str = "logits"
    metric: str = ""
    task: str = ""
    model: str = ""
    selection: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    prompt: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        *,
        shape: GraphShape,
        nodes: Mapping[Node, float],
        edges: Mapping[tuple[Node, Node], float],
        roles: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Circuit:
        """A circuit from node scores and edge scores. Nodes at the ends of edges need not be listed.

        Raises:
            CircuitError: if the architecture has no such node or edge.
        """
        graph, network = Graph(shape), nx.MultiDiGraph()
        for node, score in nodes.items():
            _check_node(graph, node)
            _add_node(network, node, score)
        for (source, target), score in edges.items():
            graph.index(Edge(source.at(None), target.at(None)))
            if (
                source.position != target.position
                and source.position is not None
                and target.slot not in ("k", "v")
            ):
                raise CircuitError(
                    f"{source}->{target} joins two positions; only heads move between positions"
                )
            _add_node(network, source, None)
            _add_node(network, _host(target), None)
            network.add_edge(str(source), str(_host(target)), key=target.slot or "in", score=float(score))
        for before, after in graph.links:
            if str(before) in network or (str(after) in network and before.kind == "head"):
                _add_node(network, before, None)
                _add_node(network, after, None)
                network.add_edge(str(before), str(after), key="link", link=True)
        for address, role in (roles or {}).items():
            if address in network:
                network.nodes[address]["role"] = role
        return cls(shape=shape, network=nx.freeze(network), **fields)

    @cached_property
    def graph(self) -> Graph:
        """The full computation graph that the circuit is part of."""
        return Graph(self.shape)

    # -- what is in it ------------------------------------------------------------------------------------

    @cached_property
    def edges(self) -> dict[str, float]:
        """Edge address -> score, in residual order; structural links left out."""
        found = {}
        for source, target, key, data in self.network.edges(keys=True, data=True):
            if not data.get("link"):
                found[str(_edge(source, target, key))] = data["score"]
        return dict(sorted(found.items(), key=lambda item: self._order(parse_edge(item[0]))))

    @cached_property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Node address -> attributes, in residual order; KV-group helper nodes left out."""
        rows = [(a, dict(d)) for a, d in self.network.nodes(data=True) if d["kind"] != "group"]
        return dict(sorted(rows, key=lambda row: self._node_order(parse_node(row[0]))))

    @property
    def heads(self) -> tuple[str, ...]:
        """Addresses of the heads in it."""
        return tuple(a for a, data in self.nodes.items() if data["kind"] == "head")

    @property
    def n_edges(self) -> int:
        return len(self.edges)

    @property
    def n_nodes(self) -> int:
        return len(self.nodes)

    @property
    def size(self) -> int:
        """Edges of an edge-level circuit; nodes of a node-level one, ``input`` and ``logits`` not counted."""
        return (
            self.n_edges
            if self.level == "edge"
            else sum(d["kind"] not in ("input", "logits") for d in self.nodes.values())
        )

    def __len__(self) -> int:
        return self.size

    def __contains__(self, address: str) -> bool:
        return address in (self.edges if "->" in address else self.nodes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.edges if self.level == "edge" else self.nodes)

    def _node_order(self, node: Node) -> tuple:
        return (
            names.depth(node, self.shape.n_layers),
            node.index or 0,
            node.slot or "",
            str(node.position or ""),
        )

    def _order(self, edge: Edge) -> tuple:
        return (*self._node_order(edge.source), *self._node_order(edge.target))

    # -- operations ---------------------------------------------------------------------------------------

    def _rebuilt(self, nodes: Iterable[str], edges: Mapping[str, float], **changes: Any) -> Circuit:
        """The same circuit with only these nodes and edges."""
        kept, network = set(nodes), nx.MultiDiGraph()
        ends = {end for e in edges for end in (str(parse_edge(e).source), str(_host(parse_edge(e).target)))}
        network.add_nodes_from((a, dict(d)) for a, d in self.network.nodes(data=True) if a in kept | ends)
        for address, score in edges.items():
            edge = parse_edge(address)
            key = edge.target.slot or "in"
            network.add_edge(str(edge.source), str(_host(edge.target)), key=key, score=float(score))
        for source, target, data in self.network.edges(data=True):
            if data.get("link") and source in network and target in network:
                network.add_edge(source, target, key="link", link=True)
        return replace(self, network=nx.freeze(network), **changes)

    def prune(self) -> Circuit:
        """Drop, again and again, every node without a way in from ``input`` or out to ``logits``."""
        if self.level == "node":
            return self
        return self._rebuilt(*self._connected(self.edges))

    def _connected(self, edges: Mapping[str, float]) -> tuple[set[str], dict[str, float]]:
        """Nodes on some path from input to logits through these edges, and the edges among them."""
        flow = nx.DiGraph()
        flow.add_nodes_from((str(INPUT), str(LOGITS)))
        parsed = {a: parse_edge(a) for a in edges}
        flow.add_edges_from((str(e.source.at(None)), str(_host(e.target).at(None))) for e in parsed.values())
        flow.add_edges_from((s, t) for s, t, d in self.network.edges(data=True) if d.get("link"))
        alive = (nx.descendants(flow, str(INPUT)) | {str(INPUT)}) & (
            nx.ancestors(flow, str(LOGITS)) | {str(LOGITS)}
        )
        kept = {
            a: edges[a]
            for a, e in parsed.items()
            if str(e.source.at(None)) in alive and str(_host(e.target).at(None)) in alive
        }
        touched = {end for a in kept for end in (str(parsed[a].source), str(_host(parsed[a].target)))}
        linked = {
            n
            for s, t, d in self.network.edges(data=True)
            if d.get("link") and s in alive and t in alive
            for n in (s, t)
            if s in touched or t in touched
        }
        return touched | linked | ({str(INPUT), str(LOGITS)} & set(self.network)), kept

    def top(self, n: int, *, by: Literal["absolute", "signed"] = "absolute") -> Circuit:
        """The ``n`` best of its own edges (or nodes), pruned."""
        if n < 0:
            raise OptionError(f"cannot keep {n} edges", hint="use a number of 0 or more")
        key = (lambda s: -abs(s)) if by == "absolute" else (lambda s: -s)
        selection = {**self.selection, "rule": f"top {n} by {by} score", "nominal": n}
        if self.level == "edge":
            best = sorted(self.edges.items(), key=lambda item: key(item[1]))[:n]
            return self._rebuilt((), dict(best), selection=selection).prune()
        chosen = [a for a, d in self.nodes.items() if d["kind"] not in ("input", "logits")]
        chosen = sorted(chosen, key=lambda a: key(self.nodes[a]["score"] or 0.0))[:n]
        return self._rebuilt((*chosen, "input", "logits"), {}, selection=selection)

    def without(self, *addresses: str) -> Circuit:
        """The circuit without some nodes (and their edges) or edges; nothing else is pruned.

        Raises:
            CircuitError: if it has no such node or edge.
        """
        for address in addresses:
            if address not in self and address not in self.network:
                raise CircuitError(
                    f"the circuit has no {address!r}", hint="workbench circuit show lists what it has"
                )
        gone = set(addresses)
        edges = {
            a: s
            for a, s in self.edges.items()
            if a not in gone and not gone & {str(parse_edge(a).source), str(_host(parse_edge(a).target))}
        }
        return self._rebuilt((n for n in self.network if n not in gone), edges)

    def with_roles(self, roles: Mapping[str, str]) -> Circuit:
        """The circuit with roles written on its nodes, for example ``{"a9.h9": "name mover"}``."""
        network = nx.MultiDiGraph(self.network)
        for address, role in roles.items():
            if address not in network:
                raise CircuitError(f"the circuit has no node {address!r} to give the role {role!r}")
            network.nodes[address]["role"] = role
        return replace(self, network=nx.freeze(network))

    def with_fields(self, **fields: Any) -> Circuit:
        """The circuit with other task, model, evaluation, prompt or provenance."""
        wrong = sorted(set(fields) - set(FIELDS))
        if wrong:
            raise OptionError(f"a circuit has no field {wrong[0]!r}", hint=f"fields: {', '.join(FIELDS)}")
        return replace(self, **fields)

    # -- looking at it ------------------------------------------------------------------------------------

    def summary(self):
        """Size, layers, heads by role, strongest nodes, edges and paths."""
        from workbench.summary import summarise

        return summarise(self)

    def diff(self, other: Circuit):
        """What only this circuit has, what only the other has, and how shared scores differ."""
        from workbench.compare import diff

        return diff(self, other)

    def overlap(self, other: Circuit):
        """Shared nodes and edges, Jaccard, with the overlap expected by chance."""
        from workbench.compare import overlap

        return overlap(self, other)

    def save(self, path):
        """Write a circuit file, atomically; see ``workbench.io``."""
        from workbench.io import save_circuit

        return save_circuit(self, path)

    def _repr_html_(self) -> str:
        from workbench.view.html import circuit_card

        return circuit_card(self)

    def __repr__(self) -> str:
        where = " ".join(
            x
            for x in (
                self.method,
                f"on {self.task}" if self.task else "",
                f"in {self.model}" if self.model else "",
            )
            if x
        )
        return f"<Circuit {where or 'unnamed'}: {self.n_nodes} nodes, {self.n_edges} edges of {self.graph.n_edges}>"


def _host(target: Node) -> Node:
    """The networkx node an edge into ``target`` points at: the part that owns the input."""
    return Node(target.kind, target.layer, target.index, None, target.position)


def _edge(source: str, target: str, key: str) -> Edge:
    host = parse_node(target)
    slot = None if key == "in" else key
    return Edge(parse_node(source), Node(host.kind, host.layer, host.index, slot, host.position))


def _check_node(graph: Graph, node: Node) -> None:
    plain = node.at(None)
    known = {*graph.nodes(), *(n for link in graph.links for n in link)}
    if plain not in known:
        raise CircuitError(
            f"this architecture has no node {plain}",
            hint=f"it has layers 0..{graph.shape.n_layers - 1}, heads 0..{graph.shape.n_heads - 1}",
        )


def _add_node(network: nx.MultiDiGraph, node: Node, score: float | None) -> None:
    address = str(node)
    if address in network:
        if score is not None:
            network.nodes[address]["score"] = float(score)
        return
    network.add_node(
        address,
        kind=node.kind,
        layer=node.layer,
        head=node.index,
        position=node.position,
        score=None if score is None else float(score),
        role="",
    )


__all__ = ["CONVENTION", "FIELDS", "Circuit"]
