"""Mermaid flowchart, for Markdown: small circuits shown where a README is."""

from __future__ import annotations

import re

from workbench.circuits.circuit import Circuit
from workbench.circuits.rows import edge_rows, node_rows, title
from workbench.view.text import number

MOST_EDGES = 500  # Mermaid's own default limit (maxEdges); beyond it, pages refuse to draw
_PLAIN = re.compile(r"[^A-Za-z0-9 .,+\-:@]")


def to_mermaid(circuit: Circuit) -> str:
    """Return the circuit as ``flowchart BT``: negative edges dotted, labels with input and score.

    A circuit of more than 500 edges is written whole, with a comment that says what to set.
    """
    edges, nodes = edge_rows(circuit), node_rows(circuit)
    ids = {row.id: f"n{i}" for i, row in enumerate(nodes)}
    lines = [f"%% {title(circuit)}", "flowchart BT"]
    if len(edges) > MOST_EDGES:
        lines.insert(1, f"%% {len(edges)} edges: set maxEdges of Mermaid to {len(edges)} or export fewer")
    for row in nodes:
        label = f"{row.id}<br/>{row.role}" if row.role else row.id
        start, end = ("[", "]") if row.kind in ("input", "logits", "mlp", "attn") else ("(", ")")
        text = "<br/>".join(escaped(part) for part in label.split("<br/>", 1))
        lines.append(f'  {ids[row.id]}{start}"{text}"{end}')
    for edge in edges:
        if edge.score is None:
            lines.append(f"  {ids[edge.source]} -.- {ids[edge.target]}")
            continue
        arrow = "-->" if edge.score >= 0 else "-.->"
        name = "" if edge.input == "in" else f"{edge.input} "
        lines.append(
            f'  {ids[edge.source]} {arrow}|"{name}{escaped(number(edge.score))}"| {ids[edge.target]}'
        )
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return text inside a quoted Mermaid label: everything but plain letters as a numeric entity.

    Example:
        >>> escaped('a "b" #c')
        'a #34;b#34; #35;c'
    """
    return _PLAIN.sub(lambda match: f"#{ord(match[0])};", text)
