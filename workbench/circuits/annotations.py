"""What a reader writes on a circuit: names, groups, colours, notes, places, hidden parts. The circuit stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, field

from workbench.circuits.addresses import Node, parse_edge, parse_node
from workbench.circuits.circuit import Circuit, check_edge, check_node
from workbench.circuits.graph import Graph
from workbench.core.errors import CircuitError, NameFormatError
from workbench.core.typed import Part

MOST_NAME, MOST_NOTE, MOST_NOTED = 80, 4000, 20_000
Name = Annotated[str, Meta(max_length=MOST_NAME)]
Note = Annotated[str, Meta(max_length=MOST_NOTE)]
Colour = Annotated[str, Meta(pattern="^(#[0-9a-f]{6})?$", description="#rrggbb, or empty for none")]
Place = Annotated[float, Meta(ge=-1e6, le=1e6)] | None


class NodeAnnotation(Part, frozen=True):
    """What was written on one node; empty where nothing was. ``x`` and ``y`` are where it was dragged to."""

    name: Name = ""
    group: Name = ""
    colour: Colour = ""
    note: Note = ""
    hidden: bool = False
    x: Place = None
    y: Place = None

    def __post_init__(self) -> None:
        if (self.x is None) != (self.y is None):
            raise ValueError("x and y go together: give both, or neither")


class EdgeAnnotation(Part, frozen=True):
    """What was written on one edge."""

    note: Note = ""
    hidden: bool = False


class GroupAnnotation(Part, frozen=True):
    """What was written on a group of nodes."""

    colour: Colour = ""
    note: Note = ""


class Annotations(Part, frozen=True):
    """What was written on the nodes, edges and groups of a circuit, by their addresses and names."""

    circuit: Annotated[str, Meta(max_length=128, description="digest of the circuit it was written on")] = ""
    nodes: dict[str, NodeAnnotation] = field(default_factory=dict)
    edges: dict[str, EdgeAnnotation] = field(default_factory=dict)
    groups: dict[str, GroupAnnotation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("nodes", "edges", "groups"):
            found: Mapping[str, Part] = getattr(self, what)
            if len(found) > MOST_NOTED:
                raise ValueError(f"{what} has {len(found)} entries; at most {MOST_NOTED} are read")
        for name in self.groups:
            if not name or len(name) > MOST_NAME:
                raise ValueError(
                    f"groups has a name of {len(name)} characters; 1 to {MOST_NAME} are expected"
                )

    @property
    def members(self) -> dict[str, list[str]]:
        """Group -> addresses of its nodes, in the order of the file."""
        found: dict[str, list[str]] = {}
        for address, own in self.nodes.items():
            if own.group:
                found.setdefault(own.group, []).append(address)
        return found


def check_annotations(found: Annotations, circuit: Circuit, where: str) -> None:
    """Do nothing if every address is one of the circuit's architecture.

    Raises:
        CircuitError: for the first that is not, with the reason.
    """
    graph = Graph(circuit.shape)
    for address in found.nodes:
        _checked(address, where, "nodes", lambda text: check_node(graph, _node(text)))
    for address in found.edges:
        _checked(address, where, "edges", lambda text: check_edge(graph, parse_edge(text, towers=True)))


def _node(text: str) -> Node:
    node = parse_node(text, towers=True)
    if node.slot:
        raise CircuitError(f"{text} is an input of a node, not a node", hint="leave out < >")
    return node


def _checked(address: str, where: str, what: str, check: object) -> None:
    try:
        check(address)  # type: ignore[operator]
    except (CircuitError, NameFormatError) as problem:
        raise CircuitError(
            f"{where}: {what}: {problem.message}",
            hint="annotate the circuit that the file was written on, or take the entry out",
        ) from None
