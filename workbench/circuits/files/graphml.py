"""GraphML 1.0, for yEd, Cytoscape, Gephi and networkx."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from workbench.circuits.circuit import Circuit
from workbench.circuits.rows import about, edge_rows, node_rows

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_NODE = {
    "kind": "string",
    "layer": "int",
    "head": "int",
    "position": "string",
    "score": "double",
    "role": "string",
}
_EDGE = {"input": "string", "score": "double"}


def to_graphml(circuit: Circuit) -> str:
    """Return the circuit as GraphML. Missing values are left out; what XML cannot hold is written as escapes."""
    root = ET.Element("graphml", xmlns=_NAMESPACE)
    for owner, keys in (("node", _NODE), ("edge", _EDGE), ("graph", dict.fromkeys(about(circuit), "string"))):
        for name, type_ in keys.items():
            ET.SubElement(
                root, "key", {"id": f"{owner}-{name}", "for": owner, "attr.name": name, "attr.type": type_}
            )
    graph = ET.SubElement(root, "graph", id="circuit", edgedefault="directed")
    _data(graph, "graph", about(circuit))
    for node in node_rows(circuit):
        _data(ET.SubElement(graph, "node", id=node.id), "node", {name: getattr(node, name) for name in _NODE})
    for edge in edge_rows(circuit):
        element = ET.SubElement(graph, "edge", id=edge.id, source=edge.source, target=edge.target)
        _data(element, "edge", {name: getattr(edge, name) for name in _EDGE})
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _data(element: ET.Element, owner: str, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        if value is not None and value != "":
            ET.SubElement(element, "data", key=f"{owner}-{name}").text = str(value)
