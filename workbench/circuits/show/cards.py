"""Results in a notebook: static tables without script, one card per kind of result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.circuits.compare import Comparison, Difference, Overlaps
from workbench.circuits.files.rows import class_rows_shown, said_of_model, way_rows_shown
from workbench.circuits.scores import Scores
from workbench.circuits.summary import Summary
from workbench.core.run_record import measured_on
from workbench.core.show import card
from workbench.view.html import short, table_html
from workbench.view.text import escape

if TYPE_CHECKING:  # these live where torch is; a card only reads their plain values
    from workbench.engine.runs import PairedRuns
    from workbench.evaluate.roles import HeadRole
    from workbench.tasks.check import CheckReport


def facts_card(facts: Mapping[str, Any], *, caption: str = "") -> str:
    """Names and values, one a line; what is empty is left out."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name.replace("_", " "))}</th>'
        f'<td style="text-align:left">{escape(short(value))}</td></tr>'
        for name, value in facts.items()
        if value not in ("", None)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<tbody>{rows}</tbody></table>"


def runs_card(runs: PairedRuns, *, most: int = 5) -> str:
    """What is run on what, the metric of both runs, what was dropped, and the first pairs."""
    aligned, known = runs.pairs, runs.provenance()
    facts = {
        "task": f"{aligned.pairs.task}, split {aligned.pairs.split}",
        "model": measured_on(known["model"], known),
        "pairs": f"{runs.n_pairs}, dropped: {len(aligned.dropped)}",
        "positions": ", ".join(runs.position_names),
        "behavior": runs.behavior.sentence("effects"),
    }
    rows = [
        {
            "clean": pair.clean,
            "corrupted": pair.corrupted,
            "correct": _answers(pair.correct),
            "incorrect": _answers(pair.incorrect),
        }
        for pair in aligned.pairs[:most]
    ]
    return facts_card(facts) + table_html(rows, caption=f"the first {len(rows)} of {runs.n_pairs} pairs")


def _answers(answers: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(repr(answer) for answer in answers[:most])
    return f"{shown}, ... ({len(answers)})" if len(answers) > most else shown


def check_card(report: CheckReport, *, most: int = 20) -> str:
    """How many pairs of a file pass, and the lines that do not."""
    facts = {
        "file": report.file,
        "model": report.model or "none: only the format was checked",
        "pass": f"{report.n_good} of {report.n_pairs} pairs",
        "tokens": "{} to {}".format(*report.lengths) if report.lengths else "",
        "positions": ", ".join(report.positions),
    }
    wrong = [{"line": str(p.line or "–"), "id": p.id, "problem": p.message} for p in report.problems[:most]]
    left = len(report.problems) - len(wrong)
    more = f"<p>and {left} more problems</p>" if left > 0 else ""
    return facts_card(facts) + (table_html(wrong) if wrong else "") + more


@card(Scores)
def scores_card(scores: Scores, *, most: int = 10) -> str:
    """What was scored how, summed scores of the heads as a picture, and the strongest edges or nodes."""
    import numpy as np

    from workbench.view.heatmap import heatmap_svg

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


def roles_card(roles: Sequence[HeadRole]) -> str:
    """One row per head with what makes its role: attention and direct effect."""
    rows = [
        {
            "head": role.head,
            "role": role.role,
            "looks": f"from {role.query} at {role.key}",
            "attention": role.attention,
            f"direct effect ({role.unit})": role.direct_effect,
            "± se": role.direct_stderr,
            "n": role.n,
        }
        for role in roles
    ]
    return table_html(rows) if rows else "<p>No head fits a role.</p>"


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
    parts = [facts_card(head)]
    parts.append(table_html([{k.replace("_", " "): v for k, v in row.items()} for row in summary.per_layer]))
    for what, rows, measure in (
        ("node", summary.nodes, summary.node_score),
        ("edge", summary.edges, "score"),
    ):
        if rows:
            parts.append(table_html([{what: name, f"{measure} ({summary.unit})": s} for name, s in rows]))
    if summary.paths:
        weakest = f"weakest |score| ({summary.unit})"
        signs = {1: "+", -1: "−"}
        parts.append(
            table_html([{"path": str(p), "sign": signs[p.sign], weakest: p.strength} for p in summary.paths])
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
    parts = [facts_card(facts)]
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
    return facts_card(facts) + table_html(rows)


@card(Comparison)
def comparison_card(found: Comparison) -> str:
    """The difference, where there is one, then the overlap."""
    before = "" if found.difference is None else difference_card(found.difference)
    shown = [rows for rows in (class_rows_shown(found), way_rows_shown(found)) if rows]
    note = f"<p>{escape(found.note)}</p>" if found.note else ""
    return before + overlap_card(found.overlap) + "".join(table_html(rows) for rows in shown) + note
