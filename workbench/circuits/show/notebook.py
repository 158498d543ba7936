"""Results in a notebook: static tables without script, one card per kind of result."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.circuits.compare import Comparison, Difference, Overlaps
from workbench.circuits.effects import Effects
from workbench.circuits.rows import class_rows_shown, said_of_model, way_rows_shown
from workbench.circuits.scores import Scores
from workbench.circuits.summary import Summary
from workbench.circuits.verdicts.hypothesis_tests import TestResult
from workbench.core.errors import OptionError
from workbench.core.show import card, picture
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import facts_html, table_html, text_html
from workbench.view.plots import heatmap_png
from workbench.view.text import escape


@card(Scores)
def scores_card(scores: Scores, *, most: int = 10) -> str:
    """What was scored how, summed scores of the heads as a picture, and the strongest edges or nodes."""
    values = scores.by_layer_and_head()
    picture = ""
    if np.isfinite(values).any():
        picture = heatmap_svg(
            values,
            [str(i) for i in range(values.shape[0])],
            [str(i) for i in range(values.shape[1])],
            title=f"{scores.method}: scores of heads"
            + (", summed over outgoing edges" if scores.level == "edge" else ""),
            unit=scores.unit,
            row_title="layer",
            column_title="head",
        )
    best = scores.to_dataframe().head(most).to_dict("records")
    caption = f"strongest {scores.level}s of {scores.n_candidates:,}, in {scores.unit}"
    return picture + table_html(best, caption=caption)


@card(Summary)
def summary_card(summary: Summary) -> str:
    """Size, roles, layers, strongest nodes, edges and paths."""
    said = {"behavior": said_of_model(summary.evaluation)}
    head = {
        **said,
        **summary.title,
        "nodes": f"{summary.n_nodes}: {summary.n_heads} heads, {summary.n_mlps} MLPs",
    }
    if summary.level == "edge":
        signs = f"{summary.n_positive:,} positive, {summary.n_negative:,} negative"
        head["edges"] = f"{summary.n_edges:,} ({100 * summary.edge_share:.3g} % of the graph's): {signs}"
    head |= {role or "without a role": ", ".join(heads) for role, heads in summary.roles.items()}
    parts = [facts_html(head)]
    parts.append(table_html([{k.replace("_", " "): v for k, v in row.items()} for row in summary.per_layer]))
    for what, rows, measure in (
        ("node", summary.nodes, summary.node_score),
        ("edge", summary.edges, "score"),
    ):
        if rows:
            parts.append(table_html([{what: name, f"{measure} ({summary.unit})": s} for name, s in rows]))
    if summary.paths:
        weakest = f"weakest |score| ({summary.unit})"
        marks = {1: "+", -1: "−"}
        parts.append(
            table_html([{"path": str(p), "sign": marks[p.sign], weakest: p.strength} for p in summary.paths])
        )
    if summary.verdicts:
        parts.append(table_html(summary.verdicts, caption="verdicts"))
    return "".join(parts)


@card(Difference)
def difference_card(found: Difference, *, most: int = 10) -> str:
    """How much two circuits share, what only one has, and the scores that differ most."""
    facts = {
        "A": found.here,
        "B": found.there,
        "shared": f"{len(found.shared_nodes)} nodes, {len(found.shared_edges)} edges",
        "only in A": f"{len(found.only_here_nodes)} nodes, {len(found.only_here_edges)} edges",
        "only in B": f"{len(found.only_there_nodes)} nodes, {len(found.only_there_edges)} edges",
    }
    if not found.comparable:
        facts["units"] = " and ".join(u or "none" for u in found.units) + ": score differences mean nothing"
    parts = [facts_html(facts)]
    for side, edges in (("A", found.only_here_edges), ("B", found.only_there_edges)):
        ranked = sorted(edges.items(), key=lambda item: -abs(item[1]))[:most]
        if ranked:
            parts.append(table_html([{f"only in {side}": edge, "score": score} for edge, score in ranked]))
    changed = found.changed()[:most]
    if changed:
        parts.append(table_html([{"in both": k, "A": a, "B": b, "B − A": b - a} for k, a, b in changed]))
    return "".join(parts)


@card(Overlaps)
def overlap_card(found: Overlaps) -> str:
    """Shared counts beside what chance alone would share."""
    rows = [
        {
            "": row.what,
            "A": row.n_here,
            "B": row.n_there,
            "of": row.universe,
            "shared": row.shared,
            "by chance": row.expected,
            "p": row.p_value,
            "Jaccard": row.jaccard,
        }
        for row in found.rows
    ]
    facts = {"A": found.here, "B": found.there, "matched by": found.matching}
    return facts_html(facts) + table_html(rows)


@card(Comparison)
def comparison_card(found: Comparison) -> str:
    """The difference, where there is one, then the overlap."""
    before = "" if found.difference is None else difference_card(found.difference)
    shown = [rows for rows in (class_rows_shown(found), way_rows_shown(found)) if rows]
    note = f"<p>{escape(found.note)}</p>" if found.note else ""
    return before + overlap_card(found.overlap) + "".join(table_html(rows) for rows in shown) + note


@card(TestResult)
def test_card(found: TestResult) -> str:
    """Every number of a hypothesis test."""
    return facts_html(found.to_dict())


@card(Effects)
def effects_card(effects: Effects) -> str:
    """The heatmap; where the rows are no grid, the strongest of them."""
    if effects.grid()[0].size:
        return effects_svg(effects)
    table = table_html(effects.to_rows(), caption=effects.shown_rows)
    return text_html(effects.lead) + table + text_html(effects.legend)


@picture(Effects)
def effects_svg(effects: Effects) -> str:
    """The heatmap of ``Effects.grid``."""
    return heatmap_svg(*_grid(effects), **_labels(effects))


@picture(Effects, "png")
def effects_png(effects: Effects) -> bytes:
    """The same through matplotlib."""
    return heatmap_png(*_grid(effects), **_labels(effects))


def _grid(effects: Effects) -> tuple[np.ndarray, list[str], list[str]]:
    values, rows, columns = effects.grid()
    if not values.size:
        raise OptionError(
            "these rows are no grid of layers, so there is no heatmap",
            hint="show the table: effects.to_dataframe()",
        )
    return values, rows, columns


def _labels(effects: Effects) -> dict[str, Any]:
    columns = effects.grid()[2]
    named = bool(columns) and not columns[0].isdecimal()
    return {
        "title": effects.title,
        "unit": effects.unit,
        "row_title": "layer",
        "column_title": "" if columns == ["all"] else "position" if named else "head",
        "marks": effects.marks_in_grid,
        "lead": effects.lead,
        "notes": [effects.legend],
    }
