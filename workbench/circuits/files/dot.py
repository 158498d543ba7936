"""DOT, for Graphviz: layers bottom to top, width by strength, sign by colour and dashes."""

from __future__ import annotations

from collections import defaultdict

from workbench.circuits.circuit import Circuit
from workbench.circuits.rows import edge_rows, node_rows, title
from workbench.view.text import printable

_SHAPES = {
    "input": "box",
    "logits": "box",
    "head": "ellipse",
    "mlp": "box",
    "group": "diamond",
    "attn": "box",
}


def to_dot(circuit: Circuit) -> str:
    """Return the circuit as a ``digraph``; negative edges are dashed and orange, structural links dotted grey."""
    lines = [
        "digraph circuit {",
        f"  graph [rankdir=BT, label={quoted(title(circuit))}, labelloc=t, fontname=Helvetica];",
        '  node [fontname=Helvetica, fontsize=11, style=filled, fillcolor="#f7f7f5"];',
        "  edge [fontname=Helvetica, fontsize=9];",
    ]
    ranks = defaultdict(list)
    for row in node_rows(circuit):
        label = f"{row.id}\n{row.role}" if row.role else row.id
        lines.append(f"  {quoted(row.id)} [label={quoted(label)}, shape={_SHAPES.get(row.kind, 'box')}];")
        ranks[row.layer, row.kind == "mlp"].append(quoted(row.id))
    lines += [f"  {{ rank=same; {'; '.join(found)}; }}" for found in ranks.values()]
    edges, unit = edge_rows(circuit), printable(circuit.unit)
    top = max((abs(e.score) for e in edges if e.score is not None), default=1.0) or 1.0
    for edge in edges:
        ends = f"  {quoted(edge.source)} -> {quoted(edge.target)}"
        if edge.score is None:
            lines.append(f'{ends} [style=dotted, arrowhead=none, color="#999999"];')
            continue
        style = 'color="#256bad"' if edge.score >= 0 else 'style=dashed, color="#cd631a"'
        label = "" if edge.input == "in" else f", label={edge.input}"
        width = 0.5 + 4.5 * abs(edge.score) / top
        tip = quoted(f"{edge.id} {edge.score:+.4g} {unit}")
        lines.append(f"{ends} [{style}, penwidth={width:.2f}{label}, weight=1, tooltip={tip}];")
    return "\n".join([*lines, "}"]) + "\n"


def quoted(text: str) -> str:
    r"""Return a DOT string. Backslashes and quotes are escaped; line ends become ``\n``.

    Example:
        >>> quoted('say "hi"')
        '"say \\"hi\\""'
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
