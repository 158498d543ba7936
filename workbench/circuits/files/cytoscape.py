"""Cytoscape JSON (CX-less ``.cyjs``), for Cytoscape and cytoscape.js."""

from __future__ import annotations

import json

from workbench.circuits.circuit import Circuit
from workbench.circuits.layout import layered
from workbench.circuits.rows import about, edge_rows, node_rows, title


def to_cytoscape(circuit: Circuit) -> str:
    """Return the circuit as ``elements`` with data and positions (y grows downwards, layers bottom to top)."""
    places = layered(circuit)
    nodes = []
    for row in node_rows(circuit):
        data = {
            "id": row.id,
            "value": row.id,
            "name": row.id,
            "kind": row.kind,
            "layer": row.layer,
            "role": row.role,
        }
        data |= {"head": row.head, "position_name": row.position, "score": row.score}
        x, y = places[row.id]
        nodes.append({"data": _known(data), "position": {"x": x, "y": -y}})
    edges = []
    for edge in edge_rows(circuit):
        data = {"id": edge.id, "source": edge.source, "target": edge.target, "key": edge.input}
        edges.append({"data": _known(data | {"interaction": edge.input, "score": edge.score})})
    document = {
        "format_version": "1.0",
        "generated_by": "circuit-workbench",
        "directed": True,
        "multigraph": True,
        "data": {"name": title(circuit), **about(circuit)},
        "elements": {"nodes": nodes, "edges": edges},
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _known(data: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in data.items() if value is not None and value != ""}
