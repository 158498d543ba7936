"""Two circuits side by side: what each has alone, what they share, and how much chance alone would share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.circuits.addresses import LOGITS, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.compare_classes import ClassRow, WayRow, class_rows, kept_whole, way_rows
from workbench.core.errors import CircuitError
from workbench.core.show import Shown
from workbench.core.stats.binomial import hypergeometric_tail
from workbench.core.text import printable


@dataclass(frozen=True, kw_only=True)
class Difference(Shown, shown_in="workbench.circuits.show.terminal workbench.circuits.show.notebook"):
    """What only ``here`` has, what only ``there`` has, and the scores of what both have.

    ``shared_*`` maps an address to (score here, score there); a score is None where a node has none.
    ``comparable`` says whether the two units are the same, so that score differences mean something.
    """

    here: str
    there: str
    units: tuple[str, str]
    only_here_nodes: tuple[str, ...]
    only_there_nodes: tuple[str, ...]
    only_here_edges: Mapping[str, float]
    only_there_edges: Mapping[str, float]
    shared_edges: Mapping[str, tuple[float, float]]
    shared_nodes: Mapping[str, tuple[float | None, float | None]]

    @property
    def comparable(self) -> bool:
        return self.units[0] == self.units[1]

    @property
    def same(self) -> bool:
        """Whether the two have the same nodes and edges with the same scores."""
        only = (self.only_here_nodes, self.only_there_nodes, self.only_here_edges, self.only_there_edges)
        pairs = (*self.shared_edges.values(), *self.shared_nodes.values())
        return not any(only) and self.comparable and all(a == b for a, b in pairs)

    def changed(self) -> list[tuple[str, float, float]]:
        """Shared edges (nodes of node-level circuits) with their scores, largest difference first."""
        shared = self.shared_edges or self.shared_nodes
        rows = [(k, a, b) for k, (a, b) in shared.items() if a is not None and b is not None and a != b]
        return sorted(rows, key=lambda row: -abs(row[1] - row[2]))

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return {
            "here": self.here,
            "there": self.there,
            "units": list(self.units),
            "same": self.same,
            "only_here": {"nodes": list(self.only_here_nodes), "edges": dict(self.only_here_edges)},
            "only_there": {"nodes": list(self.only_there_nodes), "edges": dict(self.only_there_edges)},
            "shared": {
                "nodes": {k: list(v) for k, v in self.shared_nodes.items()},
                "edges": {k: list(v) for k, v in self.shared_edges.items()},
            },
        }

    def __repr__(self) -> str:
        return printable(
            f"<Difference: {len(self.shared_edges)} shared edges, {len(self.only_here_edges)} only in "
            f"{self.here}, {len(self.only_there_edges)} only in {self.there}>"
        )


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How much two sets of the same universe share.

    Attributes:
        expected: Shared items expected of two random sets of these sizes: ``n_here * n_there / universe``.
        p_value: Chance that two random sets share at least as many (hypergeometric upper tail).
    """

    what: str
    n_here: int
    n_there: int
    shared: int
    universe: int

    @property
    def jaccard(self) -> float | None:
        """Shared over union; None when both are empty."""
        union = self.n_here + self.n_there - self.shared
        return self.shared / union if union else None

    @property
    def coefficient(self) -> float | None:
        """Shared over the size of the smaller (overlap coefficient); None when one is empty."""
        smaller = min(self.n_here, self.n_there)
        return self.shared / smaller if smaller else None

    @property
    def expected(self) -> float:
        return self.n_here * self.n_there / self.universe if self.universe else 0.0

    @property
    def p_value(self) -> float:
        return hypergeometric_tail(self.shared, self.universe, self.n_here, self.n_there)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "what": self.what,
            "here": self.n_here,
            "there": self.n_there,
            "shared": self.shared,
            "jaccard": self.jaccard,
            "overlap_coefficient": self.coefficient,
            "expected_by_chance": self.expected,
            "p_value": self.p_value,
            "universe": self.universe,
        }


@dataclass(frozen=True, kw_only=True)
class Overlaps(Shown, shown_in="workbench.circuits.show.terminal workbench.circuits.show.notebook"):
    """Overlap of nodes, of heads and of edges, with how the two circuits were matched.

    ``matching`` is ``same architecture`` (address by address, ``and positions`` where asked), or
    ``layer and head numbers`` for another model: then equal numbers are compared though they name different
    weights, and there is no universe beyond the addresses both models have.
    """

    here: str
    there: str
    matching: str
    rows: tuple[Overlap, ...]

    def __getitem__(self, what: str) -> Overlap:
        for row in self.rows:
            if row.what == what:
                return row
        raise CircuitError(
            f"no overlap of {what!r}", hint=f"there is: {', '.join(r.what for r in self.rows)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the overlaps as JSON values."""
        return {
            "here": self.here,
            "there": self.there,
            "matching": self.matching,
            "overlap": [row.to_dict() for row in self.rows],
        }

    def __repr__(self) -> str:
        shared = ", ".join(f"{r.shared} {r.what}" for r in self.rows)
        return f"<Overlaps ({self.matching}): {shared} shared>"


@dataclass(frozen=True, kw_only=True)
class Comparison(Shown, shown_in="workbench.circuits.show.terminal workbench.circuits.show.notebook"):
    """Overlap of two circuits, their classes and, where both are of one architecture, their difference.

    Attributes:
        classes: One row per role that either circuit names.
        ways: Ways between classes that one circuit's source states, looked up among the other's edges.
        note: What must be known to read the numbers; empty where nothing must.
    """

    overlap: Overlaps
    difference: Difference | None
    classes: tuple[ClassRow, ...] = ()
    ways: tuple[WayRow, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON values; the difference is null for different architectures."""
        return {
            **self.overlap.to_dict(),
            "classes": [row.to_dict() for row in self.classes],
            "ways": [row.to_dict() for row in self.ways],
            "note": self.note,
            "difference": None if self.difference is None else self.difference.to_dict(),
        }


def compare(here: Circuit, there: Circuit, *, positions: bool = False) -> Comparison:
    """Overlap, classes, and difference where it means something.

    Args:
        positions: Count a part once per position where it acts; by default positions are left out.
    """
    pair = (here, there) if positions else (_placeless(here), _placeless(there))
    same = here.shape == there.shape and here.level == there.level
    return Comparison(
        overlap=overlap(here, there, positions=positions),
        difference=diff(*pair) if same else None,
        classes=class_rows(here, there),
        ways=way_rows(here, there),
        note=_note(here, there),
    )


def _placeless(circuit: Circuit) -> Circuit:
    """A node-level circuit with each part once, positions left out; other circuits as they are."""
    if circuit.level == "edge":
        return circuit
    table: dict[str, Mapping[str, Any]] = {}
    for address, data in circuit.all_nodes.items():
        table.setdefault(str(parse_node(address, towers=True).at(None)), {**data, "position": None})
    return replace(circuit, all_nodes=table)


def _note(here: Circuit, there: Circuit) -> str:
    """What must be known before the numbers are read."""
    notes = []
    if here.shape != there.shape:
        notes.append(
            f"different models ({_shape(here)}; {_shape(there)}): equal numbers are other weights, so overlap means "
            "little; classes are compared by count and relative depth"
        )
    elif here.model != there.model:
        notes.append(
            f"equal shapes, but {here.model or 'unnamed'} and {there.model or 'unnamed'}: if the weights differ, "
            "equal numbers mean nothing"
        )
    if here.level != there.level:
        notes.append(f"{here.level} level against {there.level} level: compared by parts, not by edges")
    whole = kept_whole(here, there)
    if whole:
        notes.append(f"{len(whole)} parts that a source kept whole and did not study are not counted")
    return "; ".join(notes)


def diff(here: Circuit, there: Circuit) -> Difference:
    """Say what only one of two circuits has, and how the scores of what both have differ.

    Parts that a source kept whole and did not study are left out.

    Raises:
        CircuitError: if they are of different architectures; ``overlap`` compares those by layer and head.
    """
    if here.shape != there.shape:
        raise CircuitError(
            f"the circuits are of different architectures: {_shape(here)} and {_shape(there)}",
            hint="compare them by layer and head with overlap",
        )
    a, b = here.edges, there.edges
    whole = kept_whole(here, there)
    nodes_a, nodes_b = ({n: d for n, d in c.nodes.items() if n not in whole} for c in (here, there))
    return Difference(
        here=_name(here),
        there=_name(there),
        units=(here.unit, there.unit),
        only_here_nodes=tuple(n for n in nodes_a if n not in nodes_b),
        only_there_nodes=tuple(n for n in nodes_b if n not in nodes_a),
        only_here_edges={e: s for e, s in a.items() if e not in b},
        only_there_edges={e: s for e, s in b.items() if e not in a},
        shared_edges={e: (s, b[e]) for e, s in a.items() if e in b},
        shared_nodes={n: (d["score"], nodes_b[n]["score"]) for n, d in nodes_a.items() if n in nodes_b},
    )


def overlap(here: Circuit, there: Circuit, *, positions: bool = False) -> Overlaps:
    """Shared nodes, heads and edges of two circuits, with what chance alone would share.

    Positions are left out unless asked for: a node counts once whatever its positions. With ``positions`` a
    node counts once per position where it acts, among all nodes at all positions that either circuit names.
    ``input`` and ``logits`` are not counted as nodes, they are in every circuit; nor are parts that a source
    kept whole.

    Raises:
        CircuitError: with ``positions``, if one of the two names none.
    """
    universe = [_parts(c) for c in (here, there)]
    found = [_kept(c, positions) for c in (here, there)]
    whole = kept_whole(here, there)
    places = _places(here, there) if positions else ()
    rows = []
    for what in ("nodes", "heads", "edges"):
        if what == "edges" and ("node" in (here.level, there.level) or positions):
            continue
        common = (universe[0][what] & universe[1][what]) - whole
        common = {f"{part}@{place}" for part in common for place in places} if positions else common
        a, b = found[0][what] & common, found[1][what] & common
        rows.append(
            Overlap(what=what, n_here=len(a), n_there=len(b), shared=len(a & b), universe=len(common))
        )
    same = here.shape == there.shape
    matching = "same architecture" if same else "layer and head numbers"
    matching += " and positions" if positions else ""
    return Overlaps(here=_name(here), there=_name(there), matching=matching, rows=tuple(rows))


def _parts(circuit: Circuit) -> dict[str, set[str]]:
    """All nodes, heads and edges of the architecture."""
    graph = circuit.graph
    parts = {str(node) for node in graph.known if node.kind not in ("input", "logits", "group")}
    return {"nodes": parts, "heads": _heads(parts), "edges": {str(edge) for edge in graph.edges()}}


def _places(here: Circuit, there: Circuit) -> set[str]:
    """Every position that either circuit names.

    Raises:
        CircuitError: if one of them names none.
    """
    named = [
        {str(d["position"]) for d in c.nodes.values() if d["position"] is not None} for c in (here, there)
    ]
    for circuit, places in zip((here, there), named, strict=True):
        if not places:
            raise CircuitError(
                f"{_name(circuit)} names no positions, so the two cannot be compared position by position",
                hint="leave out --positions",
            )
    return named[0] | named[1]


def _kept(circuit: Circuit, positions: bool = False) -> dict[str, set[str]]:
    """Nodes, heads and edges of the circuit, positions left out unless asked for."""
    nodes = {a if positions else a.split("@", 1)[0] for a in circuit.nodes} - {
        str(LOGITS),
        *map(str, circuit.graph.roots),
    }
    edges = {f"{e.source.at(None)}->{e.target.at(None)}" for e in circuit.parsed_edges}
    return {"nodes": nodes, "heads": _heads(nodes), "edges": edges}


def _heads(addresses: Iterable[str]) -> set[str]:
    return {a for a in addresses if parse_node(a, towers=True).kind == "head"}


def _name(circuit: Circuit) -> str:
    return " ".join(x for x in (circuit.method, circuit.task, circuit.model) if x) or "unnamed"


def _shape(circuit: Circuit) -> str:
    shape = circuit.shape
    own = f"{shape.n_layers} layers of {shape.n_heads} heads ({shape.n_kv_heads} key/value heads)"
    beside = "beside" if shape.meets else "behind"
    behind = "" if shape.tower is None else f" {beside} a tower of {shape.tower.n_layers} layers"
    return f"{own}{behind}"
