"""Two circuits class by class: parts with the same role, and the ways between classes that a source states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.circuits.addresses import Edge, Node, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.circuits.published.kinds import KEPT_WHOLE, claimed_nodes
from workbench.core.stats.binomial import hypergeometric_tail

ENDS = ("input", "logits")


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One role in both circuits.

    Attributes:
        here, there: Parts that play it, without positions.
        depth_here, depth_there: Mean layer as a share of the last layer, 0 to 1; None without parts.
        same: Parts that play it in both; None where the two are of different models.
        found: How many parts of the role's own circuit are anywhere in the other; the role's own circuit is the
            first one unless only the second has it. None for different models, and where the other's source
            kept these parts whole.
        expected, p_value: What a random set of the other circuit's size would have, and the chance of as many.
    """

    role: str
    here: tuple[str, ...]
    there: tuple[str, ...]
    depth_here: float | None
    depth_there: float | None
    same: int | None = None
    found: int | None = None
    expected: float | None = None
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "role": self.role,
            "here": list(self.here),
            "there": list(self.there),
            "depth_here": self.depth_here,
            "depth_there": self.depth_there,
            "same_role": self.same,
            "in_the_other": self.found,
            "expected_by_chance": self.expected,
            "p_value": self.p_value,
        }


@dataclass(frozen=True, kw_only=True)
class WayRow:
    """A way between classes, as edges: how many direct edges it stands for and how many the other circuit has."""

    way: str
    stated: int
    found: int
    expected: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "way": self.way,
            "edges_stated": self.stated,
            "in_the_other": self.found,
            "expected_by_chance": self.expected,
            "p_value": self.p_value,
        }


def roles_of(circuit: Circuit) -> dict[str, tuple[str, ...]]:
    """Role -> parts without positions, in residual order; parts kept whole or without a role left out."""
    found: dict[str, dict[str, None]] = {}
    for address in claimed_nodes(circuit):
        role = circuit.nodes[address]["role"]
        if role:
            found.setdefault(role, {})[str(parse_node(address, towers=True).at(None))] = None
    return {role: tuple(parts) for role, parts in found.items()}


def kept_whole(*circuits: Circuit) -> set[str]:
    """Return parts that a source kept in place and did not study: they say nothing about agreement."""
    return {a for c in circuits for a, data in c.nodes.items() if data["role"] == KEPT_WHOLE}


def class_rows(here: Circuit, there: Circuit) -> tuple[ClassRow, ...]:
    """Return one row per role of either circuit; empty where neither names roles."""
    a, b = roles_of(here), roles_of(there)
    return tuple(
        _class_row(role, a.get(role, ()), b.get(role, ()), here, there) for role in dict.fromkeys((*a, *b))
    )


def _class_row(
    role: str, mine: tuple[str, ...], other: tuple[str, ...], here: Circuit, there: Circuit
) -> ClassRow:
    depth_here, depth_there = _depth(mine, here), _depth(other, there)
    row = ClassRow(role=role, here=mine, there=other, depth_here=depth_here, depth_there=depth_there)
    if here.shape != there.shape:
        return row
    own, rest = (mine, there) if mine else (other, here)
    kinds = {parse_node(a, towers=True).kind for a in own}
    universe = {str(n) for n in here.graph.known if n.kind in kinds} - kept_whole(here, there)
    if not set(own) <= universe:  # the other's source kept these whole, which says nothing about them
        return row
    whole = {str(parse_node(a, towers=True).at(None)) for a in rest.nodes} & universe
    found = len(whole.intersection(own))
    return replace(
        row,
        same=len(set(mine) & set(other)),
        found=found,
        expected=len(own) * len(whole) / len(universe),
        p_value=hypergeometric_tail(found, len(universe), len(own), len(whole)),
    )


def _depth(parts: Iterable[str], circuit: Circuit) -> float | None:
    layers = [parse_node(a, towers=True).layer or 0 for a in parts]
    return sum(layers) / len(layers) / max(circuit.shape.n_layers - 1, 1) if layers else None


def way_rows(here: Circuit, there: Circuit) -> tuple[WayRow, ...]:
    """Return the ways one circuit's source states, looked up among the other's edges. Direct edges only.

    Empty unless both are of one architecture, one states ways and the other has edges.
    """
    for stated, other in ((here, there), (there, here)):
        ways = stated.provenance.get("ways")
        if here.shape == there.shape and isinstance(ways, list) and ways and other.level == "edge":
            return tuple(_way_row(way, roles_of(stated), other) for way in ways if _is_way(way))
    return ()


def _is_way(way: object) -> bool:
    return isinstance(way, Mapping) and all(
        isinstance(way.get(k), str) for k in ("source", "target", "input")
    )


def _way_row(way: Mapping[str, str], roles: Mapping[str, tuple[str, ...]], other: Circuit) -> WayRow:
    stated = set(edges_of_way(way, roles, other.graph))
    theirs = {str(Edge(e.source.at(None), e.target.at(None))) for e in other.parsed_edges}
    n = other.graph.n_edges
    found = len(stated & theirs)
    slot = f"<{way['input']}>" if way["input"] else ""
    return WayRow(
        way=f"{way['source']} -> {way['target']}{slot}",
        stated=len(stated),
        found=found,
        expected=len(stated) * len(theirs) / n,
        p_value=hypergeometric_tail(found, n, len(stated), len(theirs)),
    )


def edges_of_way(way: Mapping[str, str], roles: Mapping[str, tuple[str, ...]], graph: Graph) -> Iterator[str]:
    """Return addresses of the direct edges from one class to another; into q, k and v where the way names no input."""
    known = {(str(e.source), str(e.target)) for e in graph.edges()}
    for source in _members(way["source"], roles):
        for target in _members(way["target"], roles):
            for reader in _readers(target, way["input"]):
                if (str(source), str(reader)) in known:
                    yield f"{source}->{reader}"


def _members(role: str, roles: Mapping[str, tuple[str, ...]]) -> list[Node]:
    return [parse_node(role)] if role in ENDS else [parse_node(a, towers=True) for a in roles.get(role, ())]


def _readers(target: Node, slot: str) -> list[Node]:
    if target.kind != "head":
        return [target]
    return [target.with_slot(s) for s in ((slot,) if slot else ("q", "k", "v"))]
