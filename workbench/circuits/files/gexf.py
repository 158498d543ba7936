"""GEXF 1.2, for Gephi: attributes, edge weights (absolute score), colours by sign and a layered layout."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from workbench.circuits.circuit import Circuit
from workbench.circuits.layout import layered
from workbench.circuits.rows import about, edge_rows, node_rows, title
from workbench.view.color import signed

_NAMESPACE, _VIZ = "http://www.gexf.net/1.2draft", "http://www.gexf.net/1.2draft/viz"
_NODE = {"kind": "string", "layer": "integer", "position": "string", "score": "double", "role": "string"}
_EDGE = {"input": "string", "score": "double"}


def to_gexf(circuit: Circuit) -> str:
    """Return the circuit as GEXF. ``weight`` is the absolute score, as Gephi needs; ``score`` has the sign."""
    ET.register_namespace("viz", _VIZ)
    root = ET.Element("gexf", {"xmlns": _NAMESPACE, "version": "1.2"})
    meta = ET.SubElement(root, "meta")
    ET.SubElement(meta, "creator").text = "Circuit Workbench"
    ET.SubElement(meta, "description").text = "; ".join(
        f"{k}: {v}" for k, v in about(circuit).items()
    ) or title(circuit)
    graph = ET.SubElement(root, "graph", mode="static", defaultedgetype="directed")
    keys = {owner: _declare(graph, owner, names) for owner, names in (("node", _NODE), ("edge", _EDGE))}
    places = layered(circuit)
    nodes = ET.SubElement(graph, "nodes")
    for row in node_rows(circuit):
        element = ET.SubElement(nodes, "node", id=row.id, label=row.id)
        _values(element, keys["node"], {name: getattr(row, name) for name in _NODE})
        x, y = places[row.id]
        ET.SubElement(element, f"{{{_VIZ}}}position", x=f"{x:.1f}", y=f"{y:.1f}", z="0.0")
    edges = ET.SubElement(graph, "edges")
    top = max((abs(e.score) for e in edge_rows(circuit) if e.score is not None), default=1.0) or 1.0
    for edge in edge_rows(circuit):
        element = ET.SubElement(
            edges, "edge", id=edge.id, source=edge.source, target=edge.target, label=edge.input
        )
        element.set("weight", repr(abs(edge.score)) if edge.score else "0.0")
        _values(element, keys["edge"], {name: getattr(edge, name) for name in _EDGE})
        r, g, b = signed(0.2 * (1 if (edge.score or 0) >= 0 else -1) + 0.8 * (edge.score or 0.0) / top)
        ET.SubElement(element, f"{{{_VIZ}}}color", r=str(r), g=str(g), b=str(b))
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _declare(graph: ET.Element, owner: str, names: dict[str, str]) -> dict[str, str]:
    declared = ET.SubElement(graph, "attributes", {"class": owner})
    for i, (name, type_) in enumerate(names.items()):
        ET.SubElement(declared, "attribute", id=str(i), title=name, type=type_)
    return {name: str(i) for i, name in enumerate(names)}


def _values(element: ET.Element, keys: dict[str, str], values: dict[str, object]) -> None:
    kept = {name: value for name, value in values.items() if value is not None and value != ""}
    if kept:
        holder = ET.SubElement(element, "attvalues")
        for name, value in kept.items():
            ET.SubElement(holder, "attvalue", {"for": keys[name], "value": str(value)})
