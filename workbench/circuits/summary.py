"""What a circuit consists of, in numbers: size, layers, roles, strongest nodes, edges and paths."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.circuits.addresses import parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.errors import OptionError
from workbench.core.run_record import measured_on
from workbench.core.show import Shown


@dataclass(frozen=True, kw_only=True)
class PathFound:
    """One way through a circuit from ``input`` to ``logits``.

    Attributes:
        edges: Addresses of its edges, in order.
        strength: Smallest absolute edge score on it (the bottleneck), in the circuit's unit.
        sign: 1 if an even number of its edges have negative scores, else -1.
    """

    edges: tuple[str, ...]
    strength: float
    sign: int

    def __str__(self) -> str:
        hops = [edge.split("->", 1) for edge in self.edges]
        return " → ".join([hops[0][0], *(target for _, target in hops)]) if hops else ""


@dataclass(frozen=True, kw_only=True)
class Summary(Shown, shown_in="workbench.circuits.show.terminal workbench.circuits.show.notebook"):
    """A circuit in numbers. Shares are of all nodes or edges of the architecture, 0 to 1.

    Attributes:
        per_layer: Layer -> heads, MLPs and edges into that layer.
        roles: Role -> heads that play it; heads without a role under ``""``.
        nodes: Node -> score; in an edge-level circuit the sum of the absolute scores of its outgoing edges.
        node_score: What the numbers in ``nodes`` are.
    """

    title: Mapping[str, str]
    unit: str
    level: str
    n_nodes: int
    n_edges: int
    n_heads: int
    n_mlps: int
    edge_share: float
    node_share: float
    n_positive: int
    n_negative: int
    per_layer: tuple[Mapping[str, int | str], ...]
    roles: Mapping[str, tuple[str, ...]]
    nodes: tuple[tuple[str, float], ...]
    node_score: str
    edges: tuple[tuple[str, float], ...]
    paths: tuple[PathFound, ...]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    verdicts: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            **self.title,
            "unit": self.unit,
            "level": self.level,
            "nodes": self.n_nodes,
            "edges": self.n_edges,
            "heads": self.n_heads,
            "mlps": self.n_mlps,
            "edge_share": self.edge_share,
            "node_share": self.node_share,
            "positive_edges": self.n_positive,
            "negative_edges": self.n_negative,
            "per_layer": [dict(row) for row in self.per_layer],
            "roles": {role: list(heads) for role, heads in self.roles.items()},
            "node_score": self.node_score,
            "strongest_nodes": [{"node": a, "score": s} for a, s in self.nodes],
            "strongest_edges": [{"edge": a, "score": s} for a, s in self.edges],
            "strongest_paths": [
                {"edges": list(p.edges), "strength": p.strength, "sign": p.sign} for p in self.paths
            ],
            "evaluation": dict(self.evaluation),
            "verdicts": [dict(row) for row in self.verdicts],
        }

    def __repr__(self) -> str:
        return f"<Summary: {self.n_heads} heads, {self.n_mlps} MLPs, {self.n_edges} edges>"


def summarise(circuit: Circuit, *, most: int = 10, verdicts: Sequence[Mapping[str, Any]] = ()) -> Summary:
    """Count and rank what a circuit consists of; the lists hold at most ``most`` entries each.

    Args:
        verdicts: Rows of question, verdict, measured and criterion, from its evaluation file (``Judgement.rows``).
    """
    if most < 0:
        raise OptionError(f"cannot list {most} entries", hint="use a number of 0 or more")
    nodes, scores = circuit.nodes, circuit.edges.values()
    kinds = Counter(data["kind"] for data in nodes.values())
    graph = circuit.graph
    roles: dict[str, list[str]] = {}
    for address, data in nodes.items():
        if data["kind"] == "head":
            roles.setdefault(data["role"], []).append(address)
    title = {name: getattr(circuit, name) for name in ("task", "model", "method", "metric")}
    title["model"] = measured_on(circuit.model, circuit.provenance)
    strengths, meaning = _node_strengths(circuit)
    return Summary(
        title=title,
        unit=circuit.unit,
        level=circuit.level,
        n_nodes=len(nodes),
        n_edges=circuit.n_edges,
        n_heads=kinds["head"],
        n_mlps=kinds["mlp"],
        edge_share=circuit.n_edges / graph.n_edges,
        node_share=_plain_nodes(circuit) / len(graph.nodes()),
        n_positive=sum(score > 0 for score in scores),
        n_negative=sum(score < 0 for score in scores),
        per_layer=tuple(_per_layer(circuit)),
        roles={role: tuple(heads) for role, heads in sorted(roles.items(), key=lambda r: (not r[0], r[0]))},
        nodes=tuple(sorted(strengths.items(), key=lambda item: -abs(item[1]))[:most]),
        node_score=meaning,
        edges=tuple(sorted(circuit.edges.items(), key=lambda item: -abs(item[1]))[:most]),
        paths=tuple(strongest_paths(circuit, most=most)),
        evaluation=dict(circuit.evaluation),
        verdicts=tuple(verdicts),
    )


def _plain_nodes(circuit: Circuit) -> int:
    """Parts of the architecture that are in it at some position; in post-norm models heads only read."""
    known = {str(node) for node in circuit.graph.nodes()}
    return len({address.split("@", 1)[0] for address in circuit.nodes} & known)


def _per_layer(circuit: Circuit) -> Iterator[dict[str, int | str]]:
    """Heads, MLPs and incoming edges of every layer, layers without anything included."""
    heads, mlps, edges = (Counter[int | str | None]() for _ in range(3))
    for address, data in circuit.nodes.items():
        place = _place(address, data["layer"])
        heads[place] += data["kind"] == "head"
        mlps[place] += data["kind"] == "mlp"
    for edge in circuit.parsed_edges:
        edges[_place(str(edge.target), edge.target.layer)] += 1
    rows: list[int | str] = []
    for part in circuit.graph.parts:
        rows += [n if part.stack is None else f"{part.stack} {n}" for n in range(part.shape.n_layers)]
    for layer in rows:
        yield {"layer": layer, "heads": heads[layer], "mlps": mlps[layer], "edges_in": edges[layer]}


def _place(address: str, layer: int | None) -> int | str | None:
    """The layer that a part is in; of a tower with its name."""
    tower = parse_node(address, towers=True).tower
    return layer if layer is None or tower is None else f"{tower} {layer}"


def _node_strengths(circuit: Circuit) -> tuple[dict[str, float], str]:
    """Score per node, and what it is: its own where nodes were scored, else what its edges carry."""
    own = {
        a: d["score"]
        for a, d in circuit.nodes.items()
        if d["score"] is not None and d["kind"] not in ("input", "logits")
    }
    if own or circuit.level == "node":
        return own, "node score"
    carried: dict[str, float] = {}
    for edge, score in circuit.parsed_edges.items():
        if edge.source.kind != "input":
            carried[str(edge.source)] = carried.get(str(edge.source), 0.0) + abs(score)
    return carried, "sum of |score| of outgoing edges"


def strongest_paths(circuit: Circuit, *, most: int = 10) -> list[PathFound]:
    """Return the ``most`` paths from ``input`` to ``logits`` with the largest bottleneck |score|.

    Structural links cost nothing; paths of equal strength come in a fixed order. A best-first search guided
    by the exact best bottleneck still possible from each node, deepest first among equals: it expands only
    what leads to one of the paths it returns.
    """
    following = _following(circuit)
    best = _best_to_logits(circuit, following)
    roots = [str(root) for root in circuit.graph.roots]
    starts = [a for a in circuit.all_nodes if a.split("@", 1)[0] in roots]
    start: tuple[str, ...] = ()
    queue = [(-best[a], 0, start, a, float("inf"), 1) for a in starts if best.get(a, 0.0) > 0]
    heapq.heapify(queue)
    found: list[PathFound] = []
    while queue and len(found) < most:
        _, length, edges, at, strength, sign = heapq.heappop(queue)
        if at == "logits" or at.startswith("logits@"):
            found.append(PathFound(edges=edges, strength=strength, sign=sign))
            continue
        for address, target, score in following.get(at, ()):
            reach = min(strength, abs(score) if address else float("inf"), best.get(target, 0.0))
            if reach <= 0:
                continue
            onward = min(strength, abs(score)) if address else strength
            turned = -sign if address and score < 0 else sign
            step = (*edges, address) if address else edges
            heapq.heappush(queue, (-reach, length - 1, step, target, onward, turned))
    return found


def _following(circuit: Circuit) -> dict[str, list[tuple[str, str, float]]]:
    """Node -> (edge address, next node, score) for each way on; links have an empty address."""
    following: dict[str, list[tuple[str, str, float]]] = {}
    for edge, score in circuit.parsed_edges.items():
        following.setdefault(str(edge.source), []).append((str(edge), str(edge.target.host), score))
    for source, target in circuit.links:
        following.setdefault(source, []).append(("", target, 0.0))
    return following


def _best_to_logits(
    circuit: Circuit, following: Mapping[str, list[tuple[str, str, float]]]
) -> dict[str, float]:
    """Node -> largest bottleneck |score| of any path from it to ``logits`` (widest path, backwards)."""
    before: dict[str, list[tuple[str, float]]] = {}
    for source, ways in following.items():
        for address, target, score in ways:
            before.setdefault(target, []).append((source, abs(score) if address else float("inf")))
    best: dict[str, float] = {}
    ends = [a for a in circuit.all_nodes if a == "logits" or a.startswith("logits@")]
    queue = [(-float("inf"), a) for a in ends]
    while queue:
        reach, at = heapq.heappop(queue)
        if at in best:
            continue
        best[at] = -reach
        for source, width in before.get(at, ()):
            if source not in best:
                heapq.heappush(queue, (-min(-reach, width), source))
    return best
