"""A portrait of heads on a terminal, as heatmaps, and as a card for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.show import card, shown_as, terminal
from workbench.heads.every_head import Measurement
from workbench.heads.table import LABEL, SHOWN, Portrait
from workbench.view.color import ColorScale, limit
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import table_html
from workbench.view.text import escape, number

CARD = ("induction", "previous-token", "first-token", "loss")  # heatmaps of a notebook card
MOST_ROWS = 64
_ON = {"random": "repeated random tokens", "text": "text", "pictures": "drawn pictures"}
ON_PICTURES = ("ring-1", "within-object", "object-mass", "asked-place", "word-asked-shape")


@shown_as("heatmaps", Portrait)
def heatmaps(portrait: Portrait) -> dict[str, str]:
    """Column -> layer x head heatmap; columns without a value are left out."""
    return {m.key: measurement_svg(m) for m in portrait.measurements if np.isfinite(m.values).any()}


def measurement_svg(m: Measurement) -> str:
    """Return one measurement as a heatmap: rows are layers, columns heads."""
    null = np.asarray(m.null)[np.isfinite(m.null)]
    chance = f"; by chance {number(float(null.mean()))}" if len(null) else ""
    return heatmap_svg(
        m.values,
        [str(i) for i in range(m.values.shape[0])],
        [str(i) for i in range(m.values.shape[1])],
        title=f"{m.key} ({m.evidence}){chance}",
        unit=m.unit,
        row_title="layer",
        column_title="head",
        scale=scale_of(m),
    )


def scale_of(m: Measurement) -> ColorScale:
    """Return the colours of a measurement: all shares from 0 to 1, other amounts from 0, signed ones around 0."""
    if m.low == 0:
        return ColorScale.of_amounts(m.values, high=1.0 if m.high == 1 else None)
    return ColorScale(-1.0, 1.0) if (m.low, m.high) == (-1, 1) else ColorScale.around_zero(m.values)


def shown_columns(portrait: Portrait) -> list[str]:
    """Return the columns that a narrow table has, those with values, text columns where there are no others."""
    found = []
    for name in SHOWN:
        keys = [k for k in (name, f"{name}@text") if k in portrait and np.isfinite(portrait[k].values).any()]
        found += keys if name == "loss" else keys[:1]
    return found


def table_rows(
    portrait: Portrait,
    *,
    sort: str | None = None,
    columns: Sequence[str] | None = None,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Return rows of the chosen columns, after them the kinds of head that the scores name."""
    chosen = list(shown_columns(portrait) if columns is None else columns)
    if sort is not None and sort not in chosen:
        chosen.insert(0, sort)
    rows = portrait.rows(sort=sort)[:most]
    return [{"head": r["head"], **{c: r[c] for c in chosen}, "kind": r["label"]} for r in rows]


def null_row(portrait: Portrait, columns: Sequence[str]) -> dict[str, Any]:
    """Say what chance gives in these columns, as a row of the table."""
    found: dict[str, Any] = {"head": "by chance"}
    for key in columns:
        null = np.asarray(portrait[key].null)
        null = null[np.isfinite(null)]
        found[key] = float(null.mean()) if len(null) else None
    return {**found, "kind": ""}


def by_question(portrait: Portrait) -> list[tuple[str, list[dict[str, Any]]]]:
    """Say where heads look when a picture is asked about: a table for the last word, one for the word that names it.

    Returns:
        A heading and rows: a column for each kind of question, ``0.95 / 0.01`` where the object that is asked about
        gets 0.95 and another object 0.01; empty where nothing was asked.
    """
    kinds = [key.removeprefix("asked-") for key in portrait.keys if key.startswith("asked-")]
    if not kinds:
        return []
    told = "share of attention at the object that is asked about / at another object, by kind of question"
    found = []
    for prefix, where in (("", "the last word"), ("word-", "the word that names the object")):
        rows = [
            {"head": row["head"], **{k: _both(row, prefix, k) for k in kinds}}
            for row in (*portrait.rows(), {**null_row(portrait, portrait.keys)})
        ]
        found.append((f"{where}: {told}", rows))
    return found


def _both(row: Mapping[str, Any], prefix: str, kind: str) -> str:
    own, others = (row[f"{prefix}{name}-{kind}"] for name in ("asked", "others"))
    return f"{own:.2f} / {others:.2f}"


def rounded(value: float | None, m: Measurement) -> float | None:
    """Return the value as a table shows it: beside numbers a thousand times its size 1e-06 is 0; files have it
    exactly.
    """
    if value is None or abs(value) >= 1e-4 or limit(m.values) < 1e-3:
        return value
    return round(value, 4)


def _shown(
    portrait: Portrait, rows: Sequence[dict[str, Any]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    return [{k: rounded(v, portrait[k]) if k in columns else v for k, v in row.items()} for row in rows]


def legend(portrait: Portrait, columns: Sequence[str]) -> str:
    """Say in a line what "kind" and columns of the loss mean: a reader may take them for statements about a task."""
    on_tokens = any(ground["name"] == "random" for ground in portrait.grounds)
    said = [f"kind names scores of at least {LABEL:g} on random tokens"] if on_tokens else []
    for m in (portrait[key] for key in columns if key.partition("@")[0] == "loss"):
        said.append(f"{m.key} is the {m.about}, in {m.unit}, on {_ON[m.on]}; above 0: the head helps there")
    return "whatever the task: " + "; ".join(said) if said else ""


@terminal(Portrait)
def terminal_parts(portrait: Portrait, *, sort: str | None = None, most: int = 40) -> list[Any]:
    """Return what was looked at, the table with the null values under it, and what must be said."""
    rows = table_rows(portrait, sort=sort, most=most)
    columns = [k for k in rows[0] if k not in ("head", "kind")] if rows else []
    left = len(portrait.heads) - len(rows)
    facts = {"model": portrait.measured_on, **{str(g["name"]): str(g["about"]) for g in portrait.grounds}}
    evidence: dict[str, list[str]] = {}
    for key in columns:
        evidence.setdefault(portrait[key].evidence, []).append(key)
    shown = _shown(portrait, [*rows, null_row(portrait, columns)], columns)
    parts: list[Any] = [facts, shown]
    if left > 0:
        parts.append(f"and {left} more heads")
    parts += [f"{kind}: {', '.join(keys)}" for kind, keys in evidence.items()]
    if said := legend(portrait, columns):
        parts.append(said)
    asked = by_question(portrait)
    parts += [part for table in asked for part in table]
    own = [m.key for m in portrait.measurements if np.isfinite(m.values).any()]
    in_tables = ("asked-", "others-", "word-")
    measured = [key for key in own if not (asked and key.startswith(in_tables))]
    if elsewhere := [key for key in measured if key not in columns]:
        parts.append(f"only on the page, in --json and in Parquet: {', '.join(elsewhere)}")
    return [*parts, *(f"note: {note}" for note in (*portrait.notes, *portrait.file_notes))]


@card(Portrait)
def portrait_card(portrait: Portrait) -> str:
    """Return a static card: what was looked at, four heatmaps, the table."""
    columns = shown_columns(portrait)
    rows = table_rows(portrait, columns=columns, most=MOST_ROWS)
    left = len(portrait.heads) - len(rows)
    caption = f"{portrait.title}: {len(portrait.heads)} heads" + (
        f", the first {len(rows)}" if left > 0 else ""
    )
    pictures = [
        measurement_svg(portrait[k])
        for k in (*CARD, "loss@text", *ON_PICTURES)
        if k in portrait and np.isfinite(portrait[k].values).any()
    ]
    about = "".join(f"<p>{escape(g['name'])}: {escape(g['about'])}</p>" for g in portrait.grounds)
    said_of = (*portrait.notes, *portrait.file_notes)
    notes = "".join(f"<li>{escape(note)}</li>" for note in said_of)
    said = f"<details><summary>{len(said_of)} notes</summary><ul>{notes}</ul></details>" if notes else ""
    shown = _shown(portrait, [*rows, null_row(portrait, columns)], columns)
    table = table_html(shown, caption=caption)
    if words := legend(portrait, columns):
        about += f"<p>{escape(words[0].upper() + words[1:])}.</p>"
    table += "".join(table_html(rows, caption=heading) for heading, rows in by_question(portrait))
    return f'{about}<div style="overflow-x:auto">{"".join(pictures)}{table}</div>{said}'
