"""Circuit files: a networkx node-link graph with format, version and what the circuit claims.

``docs/circuit-format.md`` describes them, ``schema/circuit.schema.json`` is their JSON Schema.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench import names
from workbench.circuit import FIELDS, Circuit, attributes, check_edge, check_node, edges_in_order, in_order
from workbench.errors import CircuitError, NameFormatError
from workbench.graph import Graph, GraphShape
from workbench.io.atomic import write_atomic
from workbench.io.strict_json import check_keys, dump, kind, parse, plain, read_text
from workbench.names import Edge, Node, parse_node

FORMAT, VERSION = "circuit-workbench/circuit", 1
FILE_NAME = "circuit.json"
EVALUATION_NAME = "evaluation.json"
_TEXT = ("method", "unit", "metric", "task", "model")
_OBJECTS = ("selection", "evaluation", "provenance")
_NODE_KEYS = {"id", "kind", "layer", "head", "position", "score", "role"}
_SLOTS = ("in", "q", "k", "v")
LEVELS = ("edge", "node", "neuron")


def to_document(circuit: Circuit) -> dict[str, Any]:
    """The content of a circuit file, as plain JSON values in a fixed order."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "shape": circuit.shape.to_dict()}
    for name in FIELDS:
        head[name] = plain(getattr(circuit, name), name)
    return {**head, "graph": _graph(circuit)}


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
    """A circuit from the content of a circuit file, checked against the architecture it names.

    Raises:
        CircuitError: if a key is missing, unknown or of the wrong type, a node or edge appears twice, an edge
            ends at a missing node, or the architecture has no such node or edge (so there are no cycles).
    """
    if not isinstance(document, dict):
        raise CircuitError(f"{where} is {kind(document)}; expected an object")
    _check_version(document, where)
    check_keys(document, {"format", "version", "shape", "graph", *FIELDS}, set(), where)
    if not isinstance(document["shape"], dict):
        raise CircuitError(f"{where}: shape is {kind(document['shape'])}; expected an object")
    fields = _fields(document, where)
    try:
        graph = Graph(GraphShape.from_dict(document["shape"]))
        table, edges, links = _network(graph, document["graph"], fields["level"])
    except (CircuitError, NameFormatError) as problem:
        raise CircuitError(f"{where}: {problem.message}", hint=problem.hint) from problem
    return Circuit(
        shape=graph.shape,
        all_nodes=in_order(graph, table),
        parsed_edges=edges_in_order(graph, edges),
        links=links,
        **fields,
    )


def _check_version(document: dict[str, Any], where: str) -> None:
    found = document.get("format")
    if found != FORMAT:
        hint = ""
        said = f"its format is {found!r:.80}, not" if "format" in document else "it has no 'format'; expected"
        if {"cfg", "nodes", "edges"} <= set(document):
            hint = "it looks like a graph of EAP-IG: workbench circuit import FILE -f eap-ig"
        raise CircuitError(f"{where} is not a circuit file: {said} {FORMAT!r}", hint=hint)
    version = document.get("version")
    if isinstance(version, bool) or version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        raise CircuitError(
            f"{where} has version {version!r:.80}; this workbench reads version {VERSION}",
            hint="a newer workbench wrote it: pip install --upgrade circuit-workbench" if newer else "",
        )


def _fields(document: dict[str, Any], where: str) -> dict[str, Any]:
    for name in _TEXT:
        if not isinstance(document[name], str):
            raise CircuitError(f"{where}: {name} is {kind(document[name])}; expected text")
    for name in _OBJECTS:
        if not isinstance(document[name], dict):
            raise CircuitError(f"{where}: {name} is {kind(document[name])}; expected an object")
    prompt = document["prompt"]
    if not isinstance(prompt, list) or not all(isinstance(token, str) for token in prompt):
        raise CircuitError(f"{where}: prompt must be a list of tokens, as text")
    if document["level"] not in LEVELS:
        raise CircuitError(f"{where}: level is {document['level']!r:.80}; expected {', '.join(LEVELS)}")
    return {name: document[name] for name in FIELDS} | {"prompt": tuple(prompt)}


def _network(graph: Graph, data: object, level: str):
    """Nodes, edges and links of node-link data, each checked."""
    data = check_keys(data, {"directed", "multigraph", "graph", "nodes", "edges"}, set(), "graph")
    if data["directed"] is not True or data["multigraph"] is not True or data["graph"] != {}:
        raise CircuitError("graph: expected directed and multigraph to be true, and graph to be {}")
    for name in ("nodes", "edges"):
        if not isinstance(data[name], list):
            raise CircuitError(f"graph.{name} is {kind(data[name])}; expected a list")
    table: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(data["nodes"]):
        node, found = _read_node(graph, row, f"graph.nodes[{i}]")
        if str(node) in table:
            raise CircuitError(f"graph.nodes[{i}]: node {node} is there twice")
        table[str(node)] = found
    edges: dict[Edge, float] = {}
    links: dict[tuple[str, str], None] = {}
    known = set(graph.links)
    for i, row in enumerate(data["edges"]):
        where = f"graph.edges[{i}]"
        edge, score = _read_edge(graph, table, row, known, where)
        link = (str(edge.source), str(edge.target))
        if (edge in edges) if score is not None else (link in links):
            raise CircuitError(f"{where}: the edge {edge} is there twice")
        if score is None:
            links[link] = None
        else:
            edges[edge] = score
    if level != "edge" and (edges or links):
        raise CircuitError(f"a {level}-level circuit has no edges; this one has some")
    n_layers = graph.shape.n_layers
    order = sorted(links, key=lambda link: [names.order(parse_node(end), n_layers) for end in link])
    return table, edges, tuple(order)


def _read_node(graph: Graph, row: object, where: str) -> tuple[Node, dict[str, Any]]:
    row = check_keys(row, _NODE_KEYS, set(), where)
    node = _address(row["id"], f"{where}.id")
    if node.slot:
        raise CircuitError(f"{where}: {node} is an input of a node, not a node")
    check_node(graph, node)
    if not isinstance(row["role"], str):
        raise CircuitError(f"{where}: role is {kind(row['role'])}; expected text")
    score = None if row["score"] is None else _number(row["score"], f"{where}.score")
    found = attributes(node, score, row["role"])
    for name in ("kind", "layer", "head", "position"):
        if row[name] != found[name] or type(row[name]) is not type(found[name]):
            raise CircuitError(f"{where}: {name} is {row[name]!r:.80} but {node} needs {found[name]!r}")
    return node, found


def _read_edge(
    graph: Graph, table: dict[str, Any], row: object, known: set[tuple[Node, Node]], where: str
) -> tuple[Edge, float | None]:
    """An edge and its score, or a link and None."""
    is_link = isinstance(row, dict) and row.get("key") == "link"
    row = check_keys(row, {"source", "target", "key", "link" if is_link else "score"}, set(), where)
    source, host = _address(row["source"], f"{where}.source"), _address(row["target"], f"{where}.target")
    for end in (source, host):
        if str(end) not in table:
            raise CircuitError(f"{where}: there is no node {end}")
    if is_link:
        if row["link"] is not True or source.position != host.position:
            raise CircuitError(f"{where}: a link has link = true and joins one position")
        if (source.at(None), host.at(None)) not in known:
            raise CircuitError(f"{where}: {source} and {host} are not linked in this architecture")
        return Edge(source, host), None
    if row["key"] not in _SLOTS:
        raise CircuitError(f"{where}: key is {row['key']!r:.80}; expected one of {', '.join(_SLOTS)} or link")
    edge = Edge(source, host.with_slot(None if row["key"] == "in" else row["key"]))
    check_edge(graph, edge)
    return edge, _number(row["score"], f"{where}.score")


def _address(text: object, where: str) -> Node:
    if not isinstance(text, str):
        raise CircuitError(f"{where} is {kind(text)}; expected an address")
    return parse_node(text)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CircuitError(f"{where} is {kind(value)}; expected a number")
    try:
        return float(value)
    except OverflowError as problem:
        raise CircuitError(f"{where} is too large for a number") from problem


def save_circuit(circuit: Circuit, path: str | os.PathLike[str]) -> Path:
    """Write a circuit file, whole or not at all. A path without ``.json`` is a folder: its ``circuit.json``.

    Returns:
        The path of the file.

    Raises:
        CircuitError: if a field holds what JSON cannot (NaN, an object); nothing is written.
        RunError: if the file cannot be written.
    """
    text = dump(to_document(circuit), where="circuit", indent=1)
    return write_atomic(circuit_path(path, writing=True), text)


def load_circuit(path: str | os.PathLike[str]) -> Circuit:
    """Read a circuit file, or the ``circuit.json`` of a folder, strictly; ``published:ioi`` is one of a paper.

    Raises:
        CircuitError: saying what is wrong and where. What is returned is always the whole circuit.
    """
    from workbench.published import load_published, published_name

    named = published_name(path)
    if named is not None:
        return load_published(named)
    file = circuit_path(path)
    return from_document(parse(read_text(file), where=str(file)), where=str(file))


def circuit_path(path: str | os.PathLike[str], *, writing: bool = False) -> Path:
    """The file meant by a path: itself, or ``circuit.json`` in a folder."""
    path = Path(path)
    is_folder = path.is_dir() or (writing and path.suffix != ".json")
    return path / FILE_NAME if is_folder else path


def has_evaluation(path: str | os.PathLike[str]) -> bool:
    """Whether an evaluation lies beside a circuit; asked before what judges it is loaded."""
    file = circuit_path(path)
    return file.name == FILE_NAME and (file.parent / EVALUATION_NAME).is_file()


def page_path(path: str | os.PathLike[str]) -> Path:
    """Where the page of a circuit goes: beside its file; for a published circuit into the current folder."""
    from workbench.published import published_name

    named = published_name(path)
    return Path(f"published-{named}.html") if named else circuit_path(path).with_suffix(".html")
