"""Circuit files: a networkx node-link graph with format, version, digest and what the circuit claims.

``docs/circuit-format.md`` describes them, ``schema/circuit.schema.json`` is their JSON Schema.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, to_builtins

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Edge, Node, parse_node
from workbench.circuits.circuit import (
    FIELDS,
    Circuit,
    attributes,
    check_edge,
    check_node,
    edges_in_order,
    in_order,
)
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.published import load_published, published_name
from workbench.core.atomic import write_atomic, write_output
from workbench.core.behavior_part import check_behaviors
from workbench.core.bounds import refuse_no_folder
from workbench.core.errors import CircuitError, NameFormatError, expect_path
from workbench.core.file_kind import FileKind, Origin
from workbench.core.show import saves
from workbench.core.strict_json import dump, parse, plain, read_text
from workbench.core.typed import Count, Part

FILE_NAME = "circuit.json"
EVALUATION_NAME = "evaluation.json"
LEVELS = ("edge", "node", "neuron")
Level = Literal["edge", "node", "neuron"]


class Shape(Part, frozen=True):
    """The architecture as its graph needs it."""

    n_layers: Annotated[int, Meta(ge=1, le=2**53)]
    n_heads: Count
    n_kv_heads: Count
    parallel: Annotated[bool, Meta(description="MLP beside attention")]
    head_writes: Annotated[bool, Meta(description="false where a norm follows the sum of the heads")]
    attention_layers: list[Count] | None
    mlp_layers: list[Count] | None
    tower: Annotated[
        Shape | UnsetType,
        Meta(description="the stack that sees, where edges cross from it to this one, or meets is true"),
    ] = UNSET
    meets: Annotated[
        bool | UnsetType,
        Meta(
            description="true where this stack reads captions and meets the tower in logits: no edge crosses"
        ),
    ] = UNSET


class CircuitNode(Part, frozen=True):
    """A node; layer, head and position say again what its address says."""

    id: Annotated[str, Meta(description="its address, for example a9.h9")]
    kind: Literal["input", "projector", "head", "group", "attn", "mlp", "neuron", "resid", "logits"]
    layer: Count | None
    head: Annotated[Count | None, Meta(description="index of the head, KV group or hidden unit")]
    position: str | Count | None
    score: float | None
    role: str


class CircuitEdge(Part, frozen=True):
    """An edge with its score, or a link, which is structure."""

    source: str
    target: str
    key: Annotated[Literal["in", "q", "k", "v", "link"], Meta(description="which input of the target reads")]
    score: float | UnsetType = UNSET
    link: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        needed, other = ("link", "score") if self.key == "link" else ("score", "link")
        if getattr(self, needed) is UNSET:
            raise ValueError(f"lacks {needed!r}")
        if getattr(self, other) is not UNSET:
            raise ValueError(f"has both key {self.key!r} and {other!r}")
        if self.link is False:
            raise ValueError("link is false; a link has link = true")


class NodeLink(Part, frozen=True):
    """Node-link data of networkx: a directed multigraph."""

    directed: bool
    multigraph: bool
    graph: Annotated[dict[str, Any], Meta(max_length=0)]
    nodes: list[CircuitNode]
    edges: list[CircuitEdge]

    def __post_init__(self) -> None:
        if not self.directed or not self.multigraph:
            raise ValueError("expected directed and multigraph to be true")


class CircuitContent(Part, frozen=True):
    """A circuit: what it is, what it claims, and its network."""

    shape: Shape
    level: Level
    method: str
    unit: Annotated[str, Meta(description="unit of every score; positive supports the behavior")]
    metric: str
    task: str
    model: str
    selection: Annotated[dict[str, Any], Meta(description="how it was chosen: rule, nominal, candidates")]
    evaluation: Annotated[dict[str, Any], Meta(description="measured faithfulness and the like")]
    prompt: Annotated[tuple[str, ...], Meta(description="tokens of an example prompt, for pictures")]
    provenance: dict[str, Any]
    graph: NodeLink

    def __post_init__(self) -> None:
        check_behaviors(self.evaluation, "behavior", "behavior_found_on")


def _foreign(document: Mapping[str, Any]) -> str:
    if {"cfg", "nodes", "edges"} <= set(document):
        return "it looks like a graph of EAP-IG: workbench circuit import FILE -f eap-ig"
    return ""


CIRCUIT = FileKind(
    format="circuit-workbench/circuit",
    content=CircuitContent,
    what="a circuit file",
    error=CircuitError,
    by_hand=True,
    hint=_foreign,
)


def to_document(circuit: Circuit) -> dict[str, Any]:
    """Return the content of a circuit file, as plain JSON values in a fixed order, with its digest."""
    content: dict[str, Any] = {"shape": circuit.shape.to_dict()}
    for name in FIELDS:
        content[name] = plain(getattr(circuit, name), name)
    return CIRCUIT.document({**content, "graph": _graph(circuit)})


def _graph(circuit: Circuit) -> dict[str, Any]:
    """The network as node-link data, nodes and edges in residual order, structural links last."""
    nodes = [{"id": address, **data} for address, data in circuit.all_nodes.items()]
    edges: list[dict[str, Any]] = [
        {"source": str(e.source), "target": str(e.target.host), "key": e.target.slot or "in", "score": score}
        for e, score in circuit.parsed_edges.items()
    ]
    edges += [{"source": s, "target": t, "key": "link", "link": True} for s, t in circuit.links]
    return {"directed": True, "multigraph": True, "graph": {}, "nodes": nodes, "edges": edges}


def from_document(document: object, *, where: str = "the circuit") -> Circuit:
    """Return a circuit from the content of a circuit file, checked against the architecture it names.

    A circuit that was changed since it was written is read with a `ChangedFileWarning`, and says so in ``notes``.

    Raises:
        CircuitError: if a key is missing, unknown or of the wrong type, a node or edge appears twice, an edge
            ends at a missing node, or the architecture has no such node or edge (so there are no cycles).
    """
    made, origin = circuit_and_origin(plain(document, where), where=where)
    CIRCUIT.say(origin)
    return made


def circuit_and_origin(document: object, *, where: str) -> tuple[Circuit, Origin]:
    """Return a circuit from the content of a circuit file, and whether that is as it was written.

    Raises:
        CircuitError: as `from_document`.
    """
    content, origin = CIRCUIT.check(document, where=where)
    try:
        graph = Graph(GraphShape.from_dict(to_builtins(content.shape)))
        table, edges, links = _network(graph, content.graph, content.level)
    except (CircuitError, NameFormatError) as problem:
        raise CircuitError(f"{where}: {problem.message}", hint=problem.hint) from problem
    made = Circuit(
        shape=graph.shape,
        all_nodes=in_order(graph, table),
        parsed_edges=edges_in_order(graph, edges),
        links=links,
        notes=origin.notes,
        **{name: getattr(content, name) for name in FIELDS},
    )
    return made, origin


def _network(
    graph: Graph, data: NodeLink, level: str
) -> tuple[dict[str, dict[str, Any]], dict[Edge, float], tuple[tuple[str, str], ...]]:
    """Nodes, edges and links of node-link data, each checked against the architecture."""
    table: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(data.nodes):
        node, found = _read_node(graph, row, f"graph.nodes[{i}]")
        if str(node) in table:
            raise CircuitError(
                f"graph.nodes[{i}]: node {node} is there twice",
                hint="remove one of the two entries, or save the circuit again",
            )
        table[str(node)] = found
    edges: dict[Edge, float] = {}
    links: dict[tuple[str, str], None] = {}
    known = set(graph.links)
    for i, read in enumerate(data.edges):
        where = f"graph.edges[{i}]"
        edge, score = _read_edge(graph, table, read, known, where)
        link = (str(edge.source), str(edge.target))
        if (edge in edges) if score is not None else (link in links):
            raise CircuitError(
                f"{where}: the edge {edge} is there twice",
                hint="remove one of the two entries, or save the circuit again",
            )
        if score is None:
            links[link] = None
        else:
            edges[edge] = score
    if level != "edge" and (edges or links):
        raise CircuitError(
            f"a {level}-level circuit has no edges; this one has some",
            hint="remove the links, or set level to edge",
        )
    n_layers = graph.shape.n_layers
    order = sorted(
        links, key=lambda link: [names.order(parse_node(end, towers=True), n_layers) for end in link]
    )
    return table, edges, tuple(order)


def _read_node(graph: Graph, row: CircuitNode, where: str) -> tuple[Node, dict[str, Any]]:
    node = parse_node(row.id, towers=True)
    if node.slot:
        raise CircuitError(
            f"{where}: {node} is an input of a node, not a node",
            hint="name the node without < >; an input is the end of a link",
        )
    check_node(graph, node)
    found = attributes(node, row.score, row.role)
    for name in ("kind", "layer", "head", "position"):
        value = getattr(row, name)
        if value != found[name] or type(value) is not type(found[name]):
            raise CircuitError(
                f"{where}: {name} is {value!r:.80} but {node} needs {found[name]!r}",
                hint=f"set {name} to {found[name]!r}, or leave the node to the workbench: save the circuit again",
            )
    return node, found


def _read_edge(
    graph: Graph, table: dict[str, Any], row: CircuitEdge, known: set[tuple[Node, Node]], where: str
) -> tuple[Edge, float | None]:
    """An edge and its score, or a link and None."""
    source, host = (parse_node(end, towers=True) for end in (row.source, row.target))
    for end in (source, host):
        if str(end) not in table:
            raise CircuitError(
                f"{where}: there is no node {end}", hint="add the node to graph.nodes, or remove the link"
            )
    if row.score is UNSET:  # a link: CircuitEdge has seen to it
        if source.position != host.position:
            raise CircuitError(
                f"{where}: a link joins one position",
                hint="give source and target of the link the same position",
            )
        if (source.at(None), host.at(None)) not in known:
            raise CircuitError(
                f"{where}: {source} and {host} are not linked in this architecture",
                hint="remove the link; workbench circuit show FILE lists the edges that there are, once it can be read",
            )
        return Edge(source, host), None
    edge = Edge(source, host.with_slot(None if row.key == "in" else row.key))
    check_edge(graph, edge)
    return edge, row.score


@saves(Circuit)
def save_circuit(circuit: Circuit, path: str | os.PathLike[str]) -> Path:
    """Write a circuit file, whole or not at all. A path without ``.json`` is a folder: its ``circuit.json``.

    Returns:
        The path of the file.

    Raises:
        CircuitError: if a field holds what JSON cannot (NaN, an object); nothing is written.
        RunError: if the file cannot be written.

    Example:
        >>> import workbench as wb
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> wb.save_circuit(wb.load_circuit("published:ioi"), mkdtemp()).name
        'circuit.json'
    """
    text = dump(to_document(circuit), where="circuit", indent=1)
    file = circuit_path(path, writing=True)
    if file == Path(path):
        return write_output(file, text)
    refuse_no_folder(path)
    return write_atomic(file, text)


def load_circuit(path: str | os.PathLike[str]) -> Circuit:
    """Read a circuit file, or the ``circuit.json`` of a folder, strictly; ``published:ioi`` is one of a paper.

    Returns:
        The circuit, with scores in the unit it was saved with.

    Raises:
        CircuitError: saying what is wrong and where. What is returned is always the whole circuit.

    Example:
        >>> import workbench as wb
        >>> wb.load_circuit("published:ioi").task
        'ioi'
    """
    expect_path(path)
    named = published_name(path)
    if named is not None:
        return load_published(named)
    file = circuit_path(path)
    made, origin = read_circuit(file)
    CIRCUIT.say(origin)
    return made


def read_circuit(file: Path) -> tuple[Circuit, Origin]:
    """Return the circuit in a file, and whether it is as it was written.

    Raises:
        CircuitError: saying what is wrong and where.
    """
    return circuit_and_origin(parse(read_text(file), where=str(file)), where=str(file))


def circuit_path(path: str | os.PathLike[str], *, writing: bool = False) -> Path:
    """Return the file meant by a path: itself, or ``circuit.json`` in a folder."""
    path = Path(path)
    is_folder = os.path.isdir(path) or (writing and path.suffix != ".json")
    return path / FILE_NAME if is_folder else path


def has_evaluation(path: str | os.PathLike[str]) -> bool:
    """Say whether an evaluation lies beside a circuit; asked before what judges it is loaded."""
    file = circuit_path(path)
    return file.name == FILE_NAME and (file.parent / EVALUATION_NAME).is_file()


def page_path(path: str | os.PathLike[str]) -> Path:
    """Say where the page of a circuit goes: beside its file; for a published circuit into the current folder."""
    named = published_name(path)
    return Path(f"published-{named}.html") if named else circuit_path(path).with_suffix(".html")
