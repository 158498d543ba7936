"""The page of a bench: its tables, ROC and precision-recall curves, and faithfulness over size, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.bench.table import BenchResult
from workbench.core.show import card, page, terminal
from workbench.view.html import results_page, table_html, text_html
from workbench.view.small_multiples import panels_svg

_LEAD = (
    "Every method on models whose circuit is known, and on trained models. Curves share axes only where the axis is "
    "a rate or a faithfulness; scores of different methods, which have different units, never do."
)


@page(BenchResult)
def bench_page(result: BenchResult) -> str:
    """A self-contained page: no network, no script but the theme switch."""
    return results_page("Bench of discovery methods", _sections(result), lead=_LEAD)


@card(BenchResult)
def bench_card(result: BenchResult) -> str:
    """The two tables of a bench, for a notebook."""
    tables = result.tables()
    return "".join(table_html(rows, caption=caption) for caption, rows in tables.items() if rows)


@terminal(BenchResult)
def bench_table(result: BenchResult) -> list[Any]:
    """Notes, then every table that has rows under its caption."""
    said = [f"note: {note}" for note in result.notes]
    return [
        *said,
        *(part for caption, rows in result.tables().items() if rows for part in (caption, rows)),
    ]


def _sections(result: BenchResult) -> list[tuple[str, str]]:
    document = result.document
    found = [(caption, table_html(rows)) for caption, rows in result.tables().items() if rows]
    for level in ("edge", "node"):
        cells = _done(document["truth"], level)
        if cells:
            found.append((f"Known circuits, {level}s: ROC", _rates(cells, "roc", level)))
            found.append((f"Known circuits, {level}s: precision and recall", _rates(cells, "pr", level)))
    for subject in dict.fromkeys(c["subject"] for c in document["tasks"]):
        for level in ("edge", "node"):
            cells = [c for c in _done(document["tasks"], level) if c["subject"] == subject]
            if cells:
                found.append((f"{subject}: faithfulness over size, {level}s", _faithfulness(cells, level)))
    found.append(("Methods", table_html([_method(row) for row in document["methods"]])))
    known = [{k: v for k, v in row.items() if v} for row in document["known"]]
    if known:
        found.append(("Known circuits", table_html(known)))
    found.append(("How it was measured", text_html(result.how())))
    return found


def _method(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": row["method"],
        "claim": row["claim"],
        "options": ", ".join(f"{k}={v}" for k, v in row["options"].items()) or "none",
        "ranked by": row["ranking"],
        "selection": row["selection"],
        "source": row["source"],
    }


def _done(cells: Sequence[Mapping[str, Any]], level: str) -> list[Mapping[str, Any]]:
    return [c for c in cells if c["status"] == "done" and c["level"] == level]


def _by_method(cells: Sequence[Mapping[str, Any]], points) -> dict[str, dict[str, list]]:
    panels: dict[str, dict[str, list]] = {}
    for cell in cells:
        panels.setdefault(cell["method"], {})[cell["subject"]] = points(cell)
    return panels


def _rates(cells: Sequence[Mapping[str, Any]], kind: str, level: str) -> str:
    """One panel per method, one curve per known circuit: both axes are rates, free of the scores' units."""
    panels = _by_method(cells, lambda c: _stairs(c["roc"]) if kind == "roc" else _whole(c["pr"]))
    measure = "auroc" if kind == "roc" else "auprc"
    notes = {}
    for name in panels:
        values = [c[measure] for c in cells if c["method"] == name and c[measure] is not None]
        if values:
            notes[name] = f"mean {measure.upper()} {sum(values) / len(values):.3f}"
    axes = ("false positive rate", "true positive rate") if kind == "roc" else ("recall", "precision")
    return panels_svg(
        panels,
        x_label=axes[0],
        y_label=axes[1],
        title=f"{axes[1].capitalize()} over {axes[0]}, {level}s, one curve per known circuit",
        notes=notes,
        behind=False,
    )


def _stairs(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(p[0], p[1]) for p in points]


def _whole(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Precision from recall 0 on: up to the first threshold it is what it is there."""
    return [(0.0, points[0][1]), *((p[0], p[1]) for p in points)] if points else []


def _faithfulness(cells: Sequence[Mapping[str, Any]], level: str) -> str:
    """One panel per method, all others in grey: best first, by CMD."""
    ordered = sorted(cells, key=lambda c: (c["CMD"] is None, c["CMD"] or 0.0))
    panels = {
        c["method"]: {
            "faithfulness": [
                (p["share"], p["faithfulness"])
                for p in c["curves"][c["ranking"]]
                if p["faithfulness"] is not None
            ]
        }
        for c in ordered
    }
    notes = {c["method"]: f"CMD {c['CMD']:.3f}, CPR {c['CPR']:.3f}" for c in ordered if c["CMD"] is not None}
    return panels_svg(
        panels,
        x_label=f"share of {level}s kept, before pruning (logarithmic)",
        y_label="faithfulness",
        title=f"{ordered[0]['subject']}, {level}s; drawn from −0.5 to 1.5, values beyond at the edge",
        notes=notes,
        log_x=True,
        y_range=(-0.5, 1.5),
        reference=(1.0,),
    )
