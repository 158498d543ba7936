"""Terminal tables of circuits, summaries and comparisons."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType

from workbench.circuits.addresses import parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import Comparison, Difference, Overlaps
from workbench.circuits.effects import Effects
from workbench.circuits.rows import (
    class_rows_shown,
    measures,
    prompt_text,
    published_source,
    said_of_model,
    way_rows_shown,
)
from workbench.circuits.summary import Summary
from workbench.core.run_record import measured_on
from workbench.core.show import terminal
from workbench.view.terminal import fields, heatmap_terminal, safe, table


@terminal(Circuit)
def circuit_table(circuit: Circuit, *, most: int = 30) -> Group:
    """What the circuit is, its nodes with roles, and its strongest edges."""
    parts: list[RenderableType] = [fields(_about(circuit)), *(safe(f"note: {n}") for n in circuit.notes)]
    scored = any(d["score"] is not None for d in circuit.nodes.values())
    rows = [
        {"node": a, **({f"score ({circuit.unit})": d["score"]} if scored else {}), "role": d["role"]}
        for a, d in circuit.nodes.items()
    ]
    shown = rows if circuit.level == "node" else [row for row in rows if row["role"]]
    most_nodes = max(most, 60)
    if shown:
        parts.append(table(shown[:most_nodes]))
    if len(shown) > most_nodes:
        parts.append(safe(f"and {len(shown) - most_nodes} more nodes", style="dim"))
    edges = sorted(circuit.edges.items(), key=lambda item: -abs(item[1]))
    if edges:
        parts.append(table([{"edge": a, f"score ({circuit.unit})": s} for a, s in edges[:most]]))
    if len(edges) > most:
        parts.append(safe(f"and {len(edges) - most} more edges, weaker than these", style="dim"))
    return Group(*parts)


def _about(circuit: Circuit) -> dict[str, str]:
    head = {
        "behavior": said_of_model(circuit.evaluation),
        "task": circuit.task,
        "model": measured_on(circuit.model, circuit.provenance),
        "method": circuit.method,
        "metric": circuit.metric,
        "unit": circuit.unit,
        "level": circuit.level,
        "size": f"{circuit.n_nodes} nodes, {circuit.n_edges:,} of {circuit.graph.n_edges:,} edges",
        **_by_stack(circuit),
        "selection": circuit.how_chosen,
        "prompt": prompt_text(circuit),
        **published_source(circuit),
    }
    return {k: v for k, v in head.items() if v} | measures(circuit.evaluation)


def _by_stack(circuit: Circuit) -> dict[str, str]:
    """Say how many nodes stand in a tower, and how many in the language model; empty where there is no tower.

    ``logits`` of two towers that meet are of neither.
    """
    if circuit.shape.tower is None:
        return {}
    nodes = [parse_node(address, towers=True) for address in circuit.all_nodes]
    nodes = [node for node in nodes if node.tower or not circuit.shape.meets]
    stacks = Counter(
        node.kind if node.kind == "projector" else f"{node.tower} tower" if node.tower else "language model"
        for node in nodes
    )
    return {"nodes in": ", ".join(f"{name} {n}" for name, n in sorted(stacks.items(), reverse=True))}


@terminal(Summary)
def summary_table(summary: Summary) -> Group:
    """Size, roles, layers, strongest nodes, edges and paths."""
    said = {"behavior": said_of_model(summary.evaluation), **summary.title}
    head = {k: v for k, v in said.items() if v}
    share = f"{_share(summary.node_share)} of the graph's"
    head["nodes"] = f"{summary.n_nodes} ({share}), {summary.n_heads} heads, {summary.n_mlps} MLPs"
    if summary.level == "edge":
        signs = f"{summary.n_positive:,} positive, {summary.n_negative:,} negative"
        head["edges"] = f"{summary.n_edges:,} ({_share(summary.edge_share)} of the graph's), {signs}"
    parts: list[RenderableType] = [fields(head)]
    roles = [{"role": r, "heads": ", ".join(heads)} for r, heads in summary.roles.items() if r]
    if roles:
        parts.append(table(roles))
    rows = [dict(row) for row in summary.per_layer]
    parts.append(table([{k.replace("_", " "): v for k, v in row.items()} for row in rows]))
    if summary.nodes:
        parts.append(
            table([{"node": a, f"{summary.node_score} ({summary.unit})": s} for a, s in summary.nodes])
        )
    if summary.edges:
        parts.append(table([{"edge": a, f"score ({summary.unit})": s} for a, s in summary.edges]))
    if summary.paths:
        paths = [
            {
                "path": str(p),
                "sign": "+" if p.sign > 0 else "−",
                f"weakest |score| ({summary.unit})": p.strength,
            }
            for p in summary.paths
        ]
        parts.append(table(paths))
    plain = measures(summary.evaluation)
    if plain:
        parts += [safe("evaluation", style="bold"), fields(plain)]
    if summary.verdicts:
        parts += [safe("verdicts", style="bold"), table(summary.verdicts)]
    return Group(*parts)


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"


@terminal(Difference)
def difference_table(found: Difference, *, most: int = 20) -> Group:
    """How much is shared, then what only one side has, then the scores that differ most."""
    head = {
        "A": found.here,
        "B": found.there,
        "shared": f"{len(found.shared_nodes)} nodes, {len(found.shared_edges)} edges",
        "only A": f"{len(found.only_here_nodes)} nodes, {len(found.only_here_edges)} edges",
        "only B": f"{len(found.only_there_nodes)} nodes, {len(found.only_there_edges)} edges",
    }
    parts: list[RenderableType] = [fields(head)]
    if not found.comparable:
        units = " and ".join(unit or "none" for unit in found.units)
        parts.append(safe(f"the units differ ({units}): score differences mean nothing"))
    rows: list[dict[str, object]] = []
    for side, nodes, edges in (
        ("A", found.only_here_nodes, found.only_here_edges),
        ("B", found.only_there_nodes, found.only_there_edges),
    ):
        rows += [{"only in": side, "what": node, "score": None} for node in nodes[:most]]
        ranked = sorted(edges.items(), key=lambda item: -abs(item[1]))[:most]
        rows += [{"only in": side, "what": edge, "score": score} for edge, score in ranked]
    if rows:
        parts.append(table(rows))
    changed = found.changed()[:most]
    if changed:
        parts.append(table([{"shared": k, "A": a, "B": b, "B - A": b - a} for k, a, b in changed]))
    if found.same:
        parts.append(safe("the two are the same"))
    return Group(*parts)


@terminal(Overlaps)
def overlap_table(found: Overlaps) -> Group:
    """Shared counts against chance."""
    rows = [row.to_dict() for row in found.rows]
    names = {
        "what": "what", "here": "A", "there": "B", "shared": "shared", "expected_by_chance": "by chance",
        "p_value": "p", "jaccard": "Jaccard", "overlap_coefficient": "overlap", "universe": "of",
    }  # fmt: skip
    shown = [{names[k]: row[k] for k in names} for row in rows]
    return Group(fields({"A": found.here, "B": found.there, "matched by": found.matching}), table(shown))


@terminal(Comparison)
def comparison_table(found: Comparison) -> Group:
    """Difference, where there is one, then overlap."""
    parts: list[RenderableType] = [] if found.difference is None else [difference_table(found.difference)]
    parts.append(overlap_table(found.overlap))
    for rows in (class_rows_shown(found), way_rows_shown(found)):
        if rows:
            parts.append(table(rows))
    return Group(*parts, *([safe(f"note: {found.note}")] if found.note else []))


@terminal(Effects)
def effects_table(effects: Effects) -> list[Any]:
    """What the model does, caption, heatmap, strongest rows, what the marks mean."""
    values, rows, columns = effects.grid()
    whole = all(name.isdecimal() for name in (*rows, *columns))
    rows = [f"layer {name}" if name.isdecimal() else name for name in rows]
    columns = [f"h{name}" for name in columns] if whole else columns
    fits = values.size > 1 and len(columns) <= 64
    marks = effects.marks_in_grid
    picture = [heatmap_terminal(values, rows, columns, unit=effects.unit, marks=marks)] if fits else []
    said = [*filter(None, [effects.lead]), effects.title, *(f"note: {note}" for note in effects.notes)]
    return [*said, *picture, effects.to_rows(), *filter(None, [effects.shown_rows]), effects.legend]
