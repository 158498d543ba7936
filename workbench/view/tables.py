"""Terminal tables of circuits, summaries and comparisons."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType

from workbench.circuit import Circuit


def table_of(result: Any) -> RenderableType | None:
    """The table of a result this module knows, or None."""
    if isinstance(result, Circuit):
        return circuit_table(result)
    return None


def circuit_table(circuit: Circuit, *, most: int = 30) -> Group:
    """What the circuit is, its nodes with roles, and its strongest edges."""
    from workbench.view.terminal import fields, safe, table

    head = {
        "task": circuit.task or None,
        "model": circuit.model or None,
        "method": circuit.method or None,
        "metric": f"{circuit.metric} ({circuit.unit})" if circuit.metric else circuit.unit,
        "level": circuit.level,
        "size": f"{circuit.n_nodes} nodes, {circuit.n_edges} of {circuit.graph.n_edges} edges",
        "selection": circuit.selection.get("rule"),
        "prompt": "".join(circuit.prompt) or None,
    }
    parts: list[RenderableType] = [fields({k: v for k, v in head.items() if v is not None})]
    rows = [{"node": a, "score": d["score"], "role": d["role"]} for a, d in circuit.nodes.items()]
    shown = rows[:most] if circuit.level == "node" else [row for row in rows if row["role"]][:most]
    if shown:
        parts.append(table(shown, columns=("node", "score", "role"), right=("score",)))
    edges = sorted(circuit.edges.items(), key=lambda item: -abs(item[1]))
    if edges:
        strongest = [{"edge": a, f"score ({circuit.unit})": s} for a, s in edges[:most]]
        parts.append(table(strongest))
    if len(edges) > most:
        parts.append(safe(f"and {len(edges) - most} more edges, weaker than these", style="dim"))
    return Group(*parts)
