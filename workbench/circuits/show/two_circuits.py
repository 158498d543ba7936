"""Two circuits on one page: what both have, what only one has, scores side by side, overlap against chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import Comparison, compare
from workbench.circuits.details import DetailsContent
from workbench.circuits.graph import GraphShape
from workbench.circuits.show.circuit_page import MOST_PAGE_EDGES, page_of
from workbench.circuits.show.notebook import overlap_card
from workbench.circuits.show.page_details import effects_beside
from workbench.core.errors import CircuitError
from workbench.view.html import table_html
from workbench.view.text import escape, printable

_ALIKE = ("parallel", "head_writes", "tower", "meets")
BOTH, HERE, THERE = "both", "here", "there"
MOST_ROWS = 40


def two_circuits_page(
    here: Circuit,
    there: Circuit,
    *,
    paths: tuple[str, str] = ("A", "B"),
    details: tuple[Sequence[DetailsContent], Sequence[DetailsContent]] = ((), ()),
) -> str:
    """Write one page of two circuits: blue is A's alone, orange B's alone, grey is of both; edges tell both scores.

    Circuits of two models are drawn by layer and head number, where each head has keys of its own in both.

    Args:
        paths: Where they are, for the command that the page shows.
        details: What was measured of the heads and edges of each, under one ablation or several: side by side.

    Raises:
        CircuitError: if they are of different levels, or of architectures whose addresses do not name the same kinds.

    Example:
        >>> import workbench as wb
        >>> a = wb.load_circuit("published:ioi")
        >>> two_circuits_page(a, a.without("a9.h9@end")).startswith("<!doctype html>")
        True
    """
    shape = _common_shape(here, there)
    found = compare(here, there)
    union = _union(here, there, shape)
    sides = {
        "edges": _sides(here.edges, there.edges),
        "nodes": _sides(here.nodes, there.nodes),
        "scores": {e: [here.edges.get(e), there.edges.get(e)] for e in union.edges},
        "paths": [printable(path) for path in paths],
    }
    return page_of(
        union,
        more={"sides": sides},
        heading="Two circuits",
        lead=_lead(found, here.shape == there.shape),
        aside=_aside(found, here, there) + _effects(details),
    )


def _common_shape(here: Circuit, there: Circuit) -> GraphShape:
    """The architecture that both can be drawn in: their own, or layer and head by number.

    Raises:
        CircuitError: if there is none.
    """
    one, two = here.shape, there.shape
    alike = all(getattr(one, name) == getattr(two, name) for name in _ALIKE)
    own_keys = all(shape.n_heads == shape.n_kv_heads for shape in (one, two))
    if here.level != there.level or not (one == two or (alike and own_keys)):
        raise CircuitError(
            "the two circuits are of different shapes or levels: equal addresses name different parts",
            hint="leave out -o: workbench circuit diff A B compares by layer and head",
        )
    if one == two:
        return one
    heads, layers = max(one.n_heads, two.n_heads), max(one.n_layers, two.n_layers)
    kinds: dict[str, Any] = {name: _layers(one, two, name) for name in ("attention_layers", "mlp_layers")}
    return replace(one, n_layers=layers, n_heads=heads, n_kv_heads=heads, **kinds)


def _layers(one: GraphShape, two: GraphShape, name: str) -> tuple[int, ...] | None:
    """Layers that have such a part in either; None where all have."""
    given = [getattr(shape, name) for shape in (one, two)]
    if None in given and one.n_layers == two.n_layers:
        return None
    every = [
        range(shape.n_layers) if layers is None else layers
        for shape, layers in zip((one, two), given, strict=True)
    ]
    found = tuple(sorted({*every[0], *every[1]}))
    return None if len(found) == max(one.n_layers, two.n_layers) else found


def _sides(here: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: BOTH if name in here and name in there else HERE if name in here else THERE
        for name in {**here, **there}
    }


def _union(here: Circuit, there: Circuit, shape: GraphShape) -> Circuit:
    """All parts of both; the larger score of a shared edge decides where it stands on the slider."""
    edges = dict(there.parsed_edges)
    for edge, score in here.parsed_edges.items():
        if abs(score) >= abs(edges.get(edge, 0.0)):
            edges[edge] = score
    both = replace(
        here,
        shape=shape,
        all_nodes={**there.all_nodes, **here.all_nodes},
        parsed_edges=edges,
        links=tuple(dict.fromkeys((*here.links, *there.links))),
        evaluation={},
        selection={},
    )
    return both.top(MOST_PAGE_EDGES) if both.level == "edge" and both.n_edges > MOST_PAGE_EDGES else both


def _lead(found: Comparison, one_shape: bool) -> str:
    told = [f"{row.shared} {row.what} shared of {row.n_here} and {row.n_there}" for row in found.overlap.rows]
    by = (
        ""
        if one_shape
        else ". By number of layer and head: the models differ, and equal numbers are no equal parts."
    )
    return f"A: {found.overlap.here}. B: {found.overlap.there}. " + ", ".join(told) + by


def _side(circuit: Circuit) -> dict[str, Any]:
    """How a circuit was found and what it keeps, for the table of both."""
    measured, options = circuit.evaluation, circuit.provenance.get("options")
    found = options.get("ablation", "resample") if isinstance(options, Mapping) else None
    interval = [measured.get(name) for name in ("low", "high")]
    return {
        "model": circuit.model,
        "task": circuit.task,
        "method": circuit.method,
        "scores by ablation": found,
        "judged by ablation": measured.get("ablation"),
        "faithfulness": measured.get("faithfulness"),
        "95 % interval": None if None in interval else interval,
        "pairs": measured.get("n"),
        "corruption": circuit.provenance.get("corruption"),
    }


def _sides_table(here: Circuit, there: Circuit) -> str:
    one, two = _side(here), _side(there)
    rows = [
        {"": name, "A": one[name], "B": two[name]}
        for name in one
        if one[name] not in (None, "") or two[name] not in (None, "")
    ]
    return (
        f"<section><h2>How each was found and judged</h2><div class='wide'>{table_html(rows)}</div></section>"
    )


def _effects(details: tuple[Sequence[DetailsContent], Sequence[DetailsContent]]) -> str:
    """Effects of heads and edges, one column for each circuit and ablation."""
    records = {
        f"{side} {found.ablation}": found for side, own in zip("AB", details, strict=True) for found in own
    }
    rows = effects_beside(records) if len(records) > 1 else []
    units = "; ".join(f"{name}: {found.unit}, n {found.n_pairs}" for name, found in records.items())
    said = escape(f"What each model loses without a part: heads, then edges ({units}). A dash: not measured.")
    return (
        "<section><h2>Heads and edges under each ablation</h2>"
        f"<p class='soft'>{said}</p><div class='wide'>{table_html(rows)}</div></section>"
        if rows
        else ""
    )


def _aside(found: Comparison, here: Circuit, there: Circuit) -> str:
    """How each was found, overlap against chance, and the scores that differ most."""
    parts = [
        _sides_table(here, there),
        f"<section><h2>Overlap against chance</h2><div class='wide'>{overlap_card(found.overlap)}</div></section>",
    ]
    difference = found.difference
    changed = [] if difference is None else difference.changed()[:MOST_ROWS]
    if difference is not None and not difference.comparable:
        units = " and ".join(unit or "none" for unit in difference.units)
        parts.append(
            f"<section><p>{escape(f'Units are {units}: differences of scores mean nothing.')}</p></section>"
        )
    elif changed:
        rows = [{"edge": edge, "A": a, "B": b, "B − A": b - a} for edge, a, b in changed]
        parts.append(
            f"<section><h2>Scores that differ most</h2><div class='wide'>{table_html(rows)}</div></section>"
        )
    return "".join(parts)
