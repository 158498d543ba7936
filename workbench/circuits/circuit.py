"""A circuit: the nodes and edges claimed to do the work, as a networkx graph with scores and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Edge, Node, parse_node
from workbench.circuits.graph import CONVENTION, Graph, GraphShape
from workbench.circuits.reachability import crossings, links, reached
from workbench.circuits.selection.rules import RANKINGS, Ranking, said
from workbench.core.errors import CircuitError, OptionError, expect, expect_word, unknown
from workbench.core.run_record import measured_on
from workbench.core.show import Shown
from workbench.core.text import printable

if TYPE_CHECKING:
    import networkx as nx

OF_THOSE = ", of those chosen by: "  # between the last rule of a cut circuit and the one before
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
class Circuit(
    Shown,
    shown_in="workbench.circuits.show.terminal workbench.circuits.show.circuit_page",
    saved_in="workbench.circuits.files.circuit_file",
):
    """Nodes and edges claimed to be enough for a behavior. Every operation returns a new circuit.

    Make one with ``Circuit.build``, from scores, or from a file; the first four fields are in residual order
    and fit the architecture, which the constructor does not check again.

    Attributes:
        all_nodes: Address -> attributes ``kind``, ``layer``, ``head``, ``position``, ``score``, ``role``; the
            helpers that are no parts of its size (KV groups) included.
        parsed_edges: Edge -> score.
        links: KV group and head, or head and post-normed layer, that are joined: structure, no edges.
        level: ``edge`` (everything but these edges is ablated), ``node`` (everything but these nodes is) or
            ``neuron`` (every hidden unit of the MLPs but these is; heads stay).
        selection: How it was chosen: rule, nominal size, number of candidates.
        prompt: Tokens of an example prompt, for views.
        notes: What is to be said of the file that it was read from; not written to files.

    Example:
        >>> import workbench as wb
        >>> circuit = wb.load_circuit("published:ioi")
        >>> circuit.level, len(circuit.heads)
        ('node', 26)
        >>> circuit.top(5).n_nodes  # the five best, input and logits
        7
        >>> less = circuit.without("a9.h9@end")
        >>> circuit.overlap(less)["nodes"].shared, circuit.diff(less).only_here_nodes
        (25, ('a9.h9@end',))
        >>> circuit.summary()
        <Summary: 26 heads, 12 MLPs, 0 edges>
    """

    shape: GraphShape
    all_nodes: Mapping[str, Mapping[str, Any]]
    parsed_edges: Mapping[Edge, float]
    links: tuple[tuple[str, str], ...] = ()
    level: Literal["edge", "node", "neuron"] = "edge"
    method: str = ""
    unit: str = "logits"
    metric: str = ""
    task: str = ""
    model: str = ""
    selection: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    prompt: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        *,
        shape: GraphShape,
        nodes: Mapping[Node, float | None],
        edges: Mapping[tuple[Node, Node], float],
        roles: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Circuit:
        """Return a circuit from nodes with scores (or None) and edge scores; ends of edges need not be listed.

        Raises:
            CircuitError: if the architecture has no such node or edge.
        """
        graph, found = Graph(shape), dict[Node, float | None]()
        for node, score in nodes.items():
            check_node(graph, node)
            found[node] = None if score is None else _finite(score, node)
        for source, target in edges:
            check_edge(graph, Edge(source, target))
            found.setdefault(source, None)
            found.setdefault(target.host, None)
        ends = links(graph, found) if fields.get("level", "edge") == "edge" else []
        given = roles or {}
        table = {
            str(node): attributes(node, score, given.get(str(node), "")) for node, score in found.items()
        }
        wires = {Edge(s, t): _finite(score, t) for (s, t), score in edges.items()}
        return cls(
            shape=shape,
            all_nodes=in_order(graph, table),
            parsed_edges=edges_in_order(graph, wires),
            links=tuple((str(before), str(after)) for before, after in ends),
            **fields,
        )

    @cached_property
    def network(self) -> nx.MultiDiGraph:
        """A frozen ``networkx.MultiDiGraph``: nodes by address with their attributes, edges keyed by the reading
        input (``q``, ``k``, ``v``, ``in``) with ``score``, links with key ``link`` and ``link=True``.
        """
        import networkx as nx  # a third of a second, which looking at a saved circuit need not wait

        made = nx.MultiDiGraph()
        made.add_nodes_from((a, dict(data)) for a, data in self.all_nodes.items())
        for edge, score in self.parsed_edges.items():
            made.add_edge(str(edge.source), str(edge.target.host), key=edge.target.slot or "in", score=score)
        for before, after in self.links:
            made.add_edge(before, after, key="link", link=True)
        return nx.freeze(made)

    @cached_property
    def graph(self) -> Graph:
        """The full computation graph that the circuit is part of."""
        return Graph(self.shape)

    # -- what is in it ------------------------------------------------------------------------------------

    @cached_property
    def edges(self) -> dict[str, float]:
        """Edge address -> score, in residual order; structural links left out."""
        return {str(edge): score for edge, score in self.parsed_edges.items()}

    @cached_property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Node address -> attributes, in residual order; KV-group helper nodes left out."""
        return {a: dict(data) for a, data in self.all_nodes.items() if data["kind"] != "group"}

    @property
    def heads(self) -> tuple[str, ...]:
        """Addresses of the heads in it."""
        return tuple(a for a, data in self.nodes.items() if data["kind"] == "head")

    @property
    def n_edges(self) -> int:
        return len(self.parsed_edges)

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

    # -- operations ---------------------------------------------------------------------------------------

    def _rebuilt(self, nodes: Iterable[str], edges: Mapping[Edge, float], **changes: Any) -> Circuit:
        """The same circuit with only these nodes, these edges and the links between what is left."""
        kept = set(nodes).union(*((str(e.source), str(e.target.host)) for e in edges))
        return replace(
            self,
            all_nodes={a: data for a, data in self.all_nodes.items() if a in kept},
            parsed_edges={e: score for e, score in self.parsed_edges.items() if e in edges},
            links=tuple(link for link in self.links if kept.issuperset(link)),
            **changes,
        )

    def prune(self) -> Circuit:
        """Drop, again and again, every node without a way in from ``input`` (or a tower's) or out to ``logits``.

        ``input`` and ``logits`` themselves go too when no edge is left at them.
        """
        if self.level != "edge":
            return self
        return self._rebuilt(*self._connected(self.parsed_edges))

    def prune_chosen(self) -> Circuit:
        """Return the pruned circuit of a fresh selection, which says how many of the chosen edges pruning removed."""
        kept = self.prune()
        return replace(kept, selection={**kept.selection, "unconnected": self.size - kept.size})

    @property
    def how_chosen(self) -> str:
        """The rule of its selection, and how many of the chosen edges were on no path and removed."""
        rule, gone = str(self.selection.get("rule", "")), self.selection.get("unconnected")
        if isinstance(gone, bool) or not isinstance(gone, int) or gone < 1:
            return rule
        last, of, before = rule.partition(OF_THOSE)
        return f"{last} ({gone:,} of them on no path from input to logits, removed){of}{before}"

    def _connected(self, edges: Mapping[Edge, float]) -> tuple[set[str], dict[Edge, float]]:
        """Nodes on some path from input to logits through these edges, and the edges among them."""
        ends = {e: (str(e.source), str(e.target.host)) for e in edges}
        ways = [*ends.values(), *self.links, *crossings(self.graph, edges)]
        fed = set[str]().union(*(reached(ways, str(root)) for root in self.graph.roots))
        alive = fed & reached([(t, s) for s, t in ways], "logits")
        kept = {e: s for e, s in edges.items() if alive.issuperset(ends[e])}
        touched = {end for e in kept for end in ends[e]}
        return touched.union(*(link for link in self.links if alive.issuperset(link))), kept

    def _helpers(self) -> set[str]:
        """Nodes that only links hold in the circuit (heads between their KV group and a post-norm layer)."""
        ends = {end for e in self.parsed_edges for end in (str(e.source), str(e.target.host))}
        return set(self.all_nodes) - ends

    def top(self, n: int, *, by: Ranking = "absolute") -> Circuit:
        """Return the ``n`` best of its own edges (or nodes), pruned."""
        expect(n, (int, np.integer), what="top: n", hint="circuit.top(200)")
        if n < 0:
            raise OptionError(f"cannot keep {n} edges", hint="use a number of 0 or more")
        expect_word("ranking", by, RANKINGS)
        key = (lambda s: -abs(s)) if by == "absolute" else (lambda s: -s)
        selection = {**self.selection, "rule": self._top_of(n, by), "nominal": n}
        if self.level == "edge":
            best = dict(sorted(self.parsed_edges.items(), key=lambda item: key(item[1]))[:n])
            return self._rebuilt(self._helpers(), best, selection=selection).prune_chosen()
        chosen = [a for a, d in self.nodes.items() if d["kind"] not in ("input", "logits")]
        chosen = sorted(chosen, key=lambda a: key(self.nodes[a]["score"] or 0.0))[:n]
        return self._rebuilt((*chosen, "input", "logits"), {}, selection=selection)

    def _top_of(self, n: int, by: Ranking) -> str:
        """The rule of its ``n`` best: of all scores only where it is itself a choice of the best in this order."""
        before, rule = str(self.selection.get("rule", "")), f"top {n} by {by} score"
        known = said(before)
        best = known is not None and known[0] == "top" and known[2] == by and n <= known[1]
        of_all = not before or (best and not self.selection.get("unconnected"))
        return rule if of_all else f"{rule}{OF_THOSE}{before}"

    def without(self, *addresses: str) -> Circuit:
        """Return the circuit without some nodes (and their edges) or edges; nothing else is pruned.

        Its rule says so: the circuit is no longer what that rule chooses from the scores.

        Raises:
            CircuitError: if it has no such node or edge.
        """
        for address in addresses:
            if address not in self and address not in self.all_nodes:
                raise unknown(
                    "node or edge of this circuit", address, [*self.nodes, *self.edges], error=CircuitError
                )
        gone = set(addresses)
        edges = {
            e: s
            for e, s in self.parsed_edges.items()
            if gone.isdisjoint((str(e), str(e.source), str(e.target.host)))
        }
        rule = f"{self.selection.get('rule') or 'parts'}, without {', '.join(addresses)}"
        selection = {**self.selection, "rule": rule} if addresses else self.selection
        return self._rebuilt((n for n in self.all_nodes if n not in gone), edges, selection=selection)

    def with_roles(self, roles: Mapping[str, str]) -> Circuit:
        """Return the circuit with roles written on its nodes, for example ``{"a9.h9": "name mover"}``."""
        for address in roles:
            if address not in self.all_nodes:
                raise unknown("node of this circuit", address, self.all_nodes, error=CircuitError)
        table = {a: {**data, "role": roles.get(a, data["role"])} for a, data in self.all_nodes.items()}
        return replace(self, all_nodes=table)

    def with_fields(self, **fields: Any) -> Circuit:
        """Return the circuit with other task, model, evaluation, prompt or provenance."""
        wrong = sorted(set(fields) - set(FIELDS))
        if wrong:
            raise OptionError(f"a circuit has no field {wrong[0]!r}", hint=f"fields: {', '.join(FIELDS)}")
        return replace(self, **fields)

    # -- looking at it ------------------------------------------------------------------------------------

    def summary(self):
        """Size, layers, heads by role, strongest nodes, edges and paths."""
        from workbench.circuits.summary import summarise

        return summarise(self)

    def diff(self, other: Circuit):
        """What only this circuit has, what only the other has, and how shared scores differ."""
        from workbench.circuits.compare import diff

        return diff(self, other)

    def overlap(self, other: Circuit):
        """Shared nodes and edges, Jaccard, with the overlap expected by chance."""
        from workbench.circuits.compare import overlap

        return overlap(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of its circuit file."""
        from workbench.circuits.files.circuit_file import to_document

        return to_document(self)

    def __repr__(self) -> str:
        model = measured_on(self.model, self.provenance)
        where = " ".join(
            x
            for x in (
                self.method,
                f"on {self.task}" if self.task else "",
                f"in {model}" if model else "",
            )
            if x
        )
        size = f"{self.n_nodes} nodes, {self.n_edges} edges of {self.graph.n_edges}"
        return printable(f"<Circuit {where or 'unnamed'}: {size}>")


def check_node(graph: Graph, node: Node) -> None:
    """Raise CircuitError unless the architecture has this node and its address can be written and read."""
    # a neuron is checked by its MLP: how many hidden units that has is not part of the graph's shape
    known = names.mlp(names.layer_of(node)) if node.kind == "neuron" else node.at(None)
    if known not in graph.known:
        raise CircuitError(
            f"this architecture has no node {node.at(None)}",
            hint=f"it has layers 0 to {graph.shape.n_layers - 1}, heads 0 to {graph.shape.n_heads - 1}",
        )
    if node.position is not None and parse_node(str(node), towers=True) != node:
        raise CircuitError(
            f"position {node.position!r} of {node.at(None)} cannot be written as an address",
            hint="use a number (@14), or a name without spaces and without < > @ (@S2)",
        )


def check_edge(graph: Graph, edge: Edge) -> None:
    """Raise CircuitError unless the architecture has this edge, at these positions.

    Only keys and values move information between positions; one end with a position needs the other.
    """
    graph.index(edge)
    before, after = edge.source.position, edge.target.position
    if before == after:
        return
    if before is None or after is None:
        raise CircuitError(
            f"{edge}: one end has a position and the other has none; both or neither is expected",
            hint="give both ends a position, m0@S2->a1.h0@S2<q>, or none, m0->a1.h0<q>",
        )
    if edge.target.slot not in ("k", "v"):
        raise CircuitError(
            f"{edge} joins two positions; only <k> and <v> read another position",
            hint="give both ends one position, or name the input that reads elsewhere: m0@S2->a1.h0<k>@end",
        )


def _finite(score: float, where: Node) -> float:
    value = float(score)
    if not isfinite(value):
        raise CircuitError(
            f"a score at {where} is {value}; scores must be finite",
            hint="give a finite number, or None where there is no score",
        )
    return value


def attributes(node: Node, score: float | None, role: str = "") -> dict[str, Any]:
    """Say what a circuit says of a node."""
    place = {"kind": node.kind, "layer": node.layer, "head": node.index, "position": node.position}
    return {**place, "score": score, "role": role}


def in_order(graph: Graph, table: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return nodes in residual order."""
    n_layers = graph.shape.n_layers
    return {
        a: table[a] for a in sorted(table, key=lambda a: names.order(parse_node(a, towers=True), n_layers))
    }


def edges_in_order(graph: Graph, edges: Mapping[Edge, float]) -> dict[Edge, float]:
    """Return edges in the order of ``Graph.edges``, then by positions."""
    rank = {e: (*graph.index(e), names.place(e.source), names.place(e.target)) for e in edges}
    return {e: edges[e] for e in sorted(edges, key=rank.__getitem__)}


__all__ = ["CONVENTION", "FIELDS", "Circuit"]
