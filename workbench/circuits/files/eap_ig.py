"""The graph JSON of EAP-IG and of the MIB circuit track, written and read.

``cfg`` has n_layers, n_heads, parallel_attn_mlp and d_model; ``nodes`` maps a name to ``{"in_graph": ...}``
(older files: to a truth value), with ``score`` where nodes were scored; ``edges`` maps ``source->target`` to
``{"score": ..., "in_graph": ...}``. Their names of nodes and edges are ours.

Source:
    Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806 (EAP-IG); Mueller et al. 2025, arXiv:2504.13151 (MIB).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.circuits.addresses import Edge, Node, parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.core.errors import CircuitError, NameFormatError
from workbench.core.strict_json import check_keys, kind, parse


def to_eap_ig(circuit: Circuit, *, scores: Scores | None = None) -> str:
    """Return the circuit as a graph of EAP-IG: every node and every edge, ``in_graph`` where the circuit has it.

    Edges outside the circuit get the score ``scores`` has for them, or 0. In a node-level circuit all edges
    between its nodes are in the graph. ``d_model`` is taken from the provenance, or 0 (they use it only for
    neuron-level circuits).

    Raises:
        CircuitError: if the format cannot say it: grouped key/value heads, post-norm models, positions.
    """
    full = _full_graph(circuit)
    d_model = _find(circuit.provenance, "d_model")
    cfg = {
        "n_layers": circuit.shape.n_layers,
        "n_heads": circuit.shape.n_heads,
        "parallel_attn_mlp": circuit.shape.parallel,
        "d_model": d_model if isinstance(d_model, int) else 0,
    }
    kept, nodes = circuit.parsed_edges, circuit.nodes
    node_rows: dict[str, dict[str, Any]] = {}
    for node in full.nodes():
        row: dict[str, Any] = {"in_graph": str(node) in nodes or node.kind == "logits"}
        score = nodes.get(str(node), {}).get("score")
        node_rows[str(node)] = row | ({"score": score} if score is not None and node.kind != "logits" else {})
    edge_rows = {}
    for edge in full.edges():
        inside = edge in kept
        if circuit.level == "node":
            inside = str(edge.source) in nodes and str(edge.target.host) in nodes
        edge_rows[str(edge)] = {"score": kept.get(edge, _known(scores, edge)), "in_graph": inside}
    return json.dumps({"cfg": cfg, "nodes": node_rows, "edges": edge_rows}, allow_nan=False) + "\n"


def _full_graph(circuit: Circuit) -> Graph:
    """Their graph: every layer has attention and an MLP, every head its own q, k and v."""
    shape = circuit.shape
    hint = "export graphml or cytoscape instead"
    if shape.tower is not None:
        raise CircuitError("EAP-IG's graph has one stack of layers; this circuit also has a tower", hint=hint)
    if shape.n_kv_heads != shape.n_heads:
        raise CircuitError(
            f"EAP-IG's graph has a key and a value input per head; here {shape.n_heads} heads share "
            f"{shape.n_kv_heads}, and a score of a shared input cannot be divided among heads",
            hint=hint,
        )
    if not shape.head_writes:
        raise CircuitError("EAP-IG's graph has no heads that only read (post-norm models)", hint=hint)
    if any(data["position"] is not None for data in circuit.nodes.values()):
        raise CircuitError("EAP-IG's graph has no positions; this circuit has", hint=hint)
    whole = GraphShape(
        n_layers=shape.n_layers, n_heads=shape.n_heads, n_kv_heads=shape.n_heads, parallel=shape.parallel
    )
    return Graph(whole)


def _known(scores: Scores | None, edge: Edge) -> float:
    if scores is None or scores.level != "edge":
        return 0.0
    try:
        return float(scores.values[scores.graph.index(edge)])
    except CircuitError:
        return 0.0  # an MLP or head their graph has and this architecture lacks


def _find(data: Mapping[str, Any], name: str) -> Any:
    """The first value of that name, in nested mappings too."""
    if name in data:
        return data[name]
    inner = (_find(value, name) for value in data.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)


def from_eap_ig(text: str, *, where: str = "the graph", **fields: Any) -> Circuit:
    """Return a circuit from a graph of EAP-IG: the edges that are ``in_graph``.

    The level is ``node`` when nodes have scores and no edge has one, else ``edge``. ``fields`` (task, model,
    method, ...) are put into the circuit: the file does not say them.

    Raises:
        CircuitError: if the file is not such a graph, or nothing is in the graph (a file of importances only:
            ``scores_from_eap_ig`` reads it).
    """
    graph, nodes, edges = _read(text, where)
    chosen = {edge: score for edge, (score, inside) in edges.items() if inside}
    kept = {node: score for node, (score, inside) in nodes.items() if inside}
    if not chosen and not any(node.kind in ("head", "mlp") for node in kept):
        raise CircuitError(
            f"{where}: nothing is in_graph; it is a file of scores, not of a circuit",
            hint="choose how much to keep: workbench circuit import FILE --keep 5%",
        )
    scored_nodes = any(score is not None for score in kept.values())
    level = "node" if scored_nodes and not any(score for score in chosen.values()) else "edge"
    made = {
        "unit": "unknown",
        "method": "imported",
        "selection": {"rule": "as imported", "nominal": len(chosen), "candidates": graph.n_edges},
        **fields,
    }
    missing = [str(e) for e, s in chosen.items() if s is None]
    if level == "edge" and missing:
        raise CircuitError(
            f"{where}: edge {missing[0]} is in_graph but has no score",
            hint="give the edge a score, or set its in_graph to false",
        )
    return Circuit.build(
        shape=graph.shape,
        level=level,
        nodes={n: s for n, s in kept.items()} if level == "node" else {},
        edges={(e.source, e.target): s for e, s in chosen.items() if s is not None}
        if level == "edge"
        else {},
        **made,
    )


def scores_from_eap_ig(text: str, *, where: str = "the graph", **fields: Any) -> Scores:
    """Return the edge scores of a graph of EAP-IG, in the graph or not.

    Raises:
        CircuitError: if the file is not such a graph, or an edge has no score.
    """
    graph, _, edges = _read(text, where)
    values = np.full(graph.edge_mask.shape, np.nan)
    for edge, (score, _) in edges.items():
        values[graph.index(edge)] = math.nan if score is None else score
    bad = int(np.isnan(values[graph.edge_mask]).sum())
    if bad:
        raise CircuitError(
            f"{where}: {bad} of {graph.n_edges} edges have no score",
            hint="give every edge a score, or import it as a circuit: workbench circuit import FILE -f eap-ig",
        )
    known = {"method": "imported", "unit": "unknown", "metric": "", "n_pairs": 0, **fields}
    return Scores(graph=graph, values=values, level="edge", **known)


Row = tuple[float | None, bool]


def _read(text: str, where: str) -> tuple[Graph, dict[Node, Row], dict[Edge, Row]]:
    data = parse(text, where=where, nan_is_null=True)  # unscored nodes are written as NaN
    if not isinstance(data, dict) or not {"cfg", "nodes", "edges"} <= set(data):
        raise CircuitError(
            f"{where} is not a graph of EAP-IG, which has cfg, nodes and edges",
            hint="name a file that graph.to_json of EAP-IG wrote",
        )
    cfg = data["cfg"]
    if not isinstance(cfg, dict):
        raise CircuitError(
            f"{where}: cfg is {kind(cfg)}; expected an object",
            hint="export it again with EAP-IG: graph.to_json(path)",
        )
    check_keys({k: cfg.get(k) for k in cfg}, {"n_layers", "n_heads"}, set(cfg), f"{where}: cfg")
    shape = GraphShape(
        n_layers=cfg["n_layers"],
        n_heads=cfg["n_heads"],
        n_kv_heads=cfg["n_heads"],
        parallel=cfg.get("parallel_attn_mlp", False),
    )
    graph = Graph(shape)
    for name in ("nodes", "edges"):
        if not isinstance(data[name], dict):
            raise CircuitError(
                f"{where}: {name} is {kind(data[name])}; expected an object",
                hint="export it again with EAP-IG: graph.to_json(path)",
            )
    try:
        nodes = {parse_node(n): _row(v, f"{where}: node {n}") for n, v in data["nodes"].items()}
        edges = {parse_edge(e): _row(v, f"{where}: edge {e}") for e, v in data["edges"].items()}
    except NameFormatError as problem:
        raise CircuitError(f"{where}: {problem.message}", hint=problem.hint) from problem
    for edge in edges:
        graph.index(edge)
    for node in nodes:
        if node not in graph.known:
            raise CircuitError(
                f"{where}: cfg has no node {node}",
                hint="set n_layers and n_heads of cfg to those of the model, or remove the node",
            )
    return graph, nodes, edges


def _row(value: object, where: str) -> Row:
    """Score and whether it is in the graph."""
    if isinstance(value, bool):
        return None, value
    if not isinstance(value, dict) or not isinstance(value.get("in_graph"), bool):
        raise CircuitError(
            f"{where}: expected in_graph to be true or false",
            hint='write it as {"score": 0.1, "in_graph": true}',
        )
    score = value.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise CircuitError(
            f"{where}: score is {kind(score)}; expected a number",
            hint='write it as {"score": 0.1, "in_graph": true}',
        )
    return score, value["in_graph"]
