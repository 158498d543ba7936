"""Two circuits on one page: what both have, what only one has, scores side by side, overlap against chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import Comparison, compare
from workbench.circuits.show.circuit_page import MOST_PAGE_EDGES, page_of
from workbench.circuits.show.notebook import overlap_card
from workbench.core.errors import CircuitError
from workbench.view.html import table_html
from workbench.view.text import escape, printable

BOTH, HERE, THERE = "both", "here", "there"
MOST_ROWS = 40


def two_circuits_page(here: Circuit, there: Circuit, *, paths: tuple[str, str] = ("A", "B")) -> str:
    """Write one page of two circuits of one architecture: blue is A's alone, orange B's alone, grey is of both.

    Args:
        paths: Where they are, for the command that the page shows.

    Raises:
        CircuitError: if they are of different shapes or levels, so that an address means two things.

    Example:
        >>> import workbench as wb
        >>> a = wb.load_circuit("published:ioi")
        >>> two_circuits_page(a, a.without("a9.h9@end")).startswith("<!doctype html>")
        True
    """
    if here.shape != there.shape or here.level != there.level:
        raise CircuitError(
            "the two circuits are of different shapes or levels: equal addresses name different parts",
            hint="leave out -o: workbench circuit diff A B compares by layer and head",
        )
    found = compare(here, there)
    union = _union(here, there)
    sides = {
        "edges": _sides(here.edges, there.edges),
        "nodes": _sides(here.nodes, there.nodes),
        "scores": {e: [here.edges.get(e), there.edges.get(e)] for e in union.edges},
        "paths": [printable(path) for path in paths],
    }
    return page_of(
        union, more={"sides": sides}, heading="Two circuits", lead=_lead(found), aside=_aside(found)
    )


def _sides(here: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: BOTH if name in here and name in there else HERE if name in here else THERE
        for name in {**here, **there}
    }


def _union(here: Circuit, there: Circuit) -> Circuit:
    """All parts of both; the larger score of a shared edge decides where it stands on the slider."""
    edges = dict(there.parsed_edges)
    for edge, score in here.parsed_edges.items():
        if abs(score) >= abs(edges.get(edge, 0.0)):
            edges[edge] = score
    both = replace(
        here,
        all_nodes={**there.all_nodes, **here.all_nodes},
        parsed_edges=edges,
        links=tuple(dict.fromkeys((*here.links, *there.links))),
        evaluation={},
        selection={},
    )
    return both.top(MOST_PAGE_EDGES) if both.level == "edge" and both.n_edges > MOST_PAGE_EDGES else both


def _lead(found: Comparison) -> str:
    told = [f"{row.shared} {row.what} shared of {row.n_here} and {row.n_there}" for row in found.overlap.rows]
    return f"A: {found.overlap.here}. B: {found.overlap.there}. " + ", ".join(told)


def _aside(found: Comparison) -> str:
    """Overlap against chance, and the scores that differ most."""
    parts = [
        f"<section><h2>Overlap against chance</h2><div class='wide'>{overlap_card(found.overlap)}</div></section>"
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
