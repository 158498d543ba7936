"""The atlas: one page of all heads of a model. Patterns with tokens on hover, a sortable table, heatmaps, definitions.

No network and no script but those that the page's policy names by hash; every text of a prompt, token or model
name is escaped or set as text, never as markup.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.heads.show.looks import looks_section
from workbench.heads.show.portrait import by_question, heatmaps, legend, rounded
from workbench.heads.table import EVIDENCE
from workbench.view.html import short, table_html
from workbench.view.page import asset, embedded_json, frame
from workbench.view.text import escape, number, printable

if TYPE_CHECKING:
    from workbench.heads.every_head import Measurement
    from workbench.heads.picture_look import PictureLook
    from workbench.heads.shown_patterns import PromptPatterns
    from workbench.heads.table import Portrait


_SINKS = (
    " Shades are shares of what a row gives to keys. A learned sink takes the rest, named beside each row."
)


def atlas_page(
    portrait: Portrait,
    prompts: Sequence[PromptPatterns] = (),
    looks: Sequence[PictureLook] = (),
    towers: Sequence[Portrait] = (),
) -> str:
    """Return a self-contained page.

    Args:
        prompts: Whose patterns it shows.
        looks: Pictures to show under the attention.
        towers: Portraits of the model's towers, each a part of the page.
    """
    lead = "; ".join(f"{g['name']}: {g['about']}" for g in portrait.grounds)
    body = (
        f'<main class="report atlas"><header><div><h1>{escape(portrait.title)}</h1>'
        f'<p class="soft">{escape(lead)}</p></div>'
        '<button type="button" id="theme">Dark</button></header>'
        f"{looks_section(looks) if looks else ''}{_patterns(prompts)}{_table(portrait)}{_pictures(portrait)}"
        f"{''.join(map(_of_tower, towers))}{_definitions([portrait, *towers])}{_notes([portrait, *towers])}</main>"
        f'<script type="application/json" id="data">{embedded_json(_data(prompts))}</script>'
    )
    scripts = (asset("theme.js"), asset("atlas.js"), *([asset("looks.js")] if looks else []))
    return frame(title=printable(portrait.title), body=body, body_class="atlas", scripts=scripts)


def _data(prompts: Sequence[PromptPatterns]) -> list[dict[str, Any]]:
    """What ``atlas.js`` draws: tokens, and attention times 255 as base64, layer by layer, head, query, key.

    ``sinks`` are the shares that go to no key, by layer, head, query; null where there are none.
    """
    return [
        {
            "title": printable(p.title),
            "tokens": [printable(t) for t in p.tokens],
            "layers": list(p.layers),
            "heads": int(p.weights.shape[1]),
            "weights": _base64(p.weights),
            "sinks": None if p.sinks is None else _base64(p.sinks),
        }
        for p in prompts
    ]


def _base64(numbers: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode("ascii")


def _patterns(prompts: Sequence[PromptPatterns]) -> str:
    if not prompts:
        return ""
    rest = _SINKS if any(p.sinks is not None for p in prompts) else ""
    options = "".join(f'<option value="{i}">{escape(p.title)}</option>' for i, p in enumerate(prompts))
    return (
        "<section><h2>Patterns</h2>"
        f'<div class="row"><label>Prompt <select id="prompt">{options}</select></label>'
        '<label>Head <select id="head"></select></label>'
        '<span class="soft">Rows are queries, columns keys. Point at a cell, or at a token for its row.'
        f"{rest}</span></div>"
        '<div class="pattern"><div><canvas id="pattern" width="480" height="480" tabindex="0" role="img" '
        'aria-label="Attention pattern of the chosen head; arrow keys move the cell"></canvas>'
        '<p id="readout" role="status" aria-live="polite" class="soft">&nbsp;</p></div>'
        '<div id="sheet" aria-label="All heads: rows are layers, columns heads"></div></div>'
        '<div id="tokens" class="tokens" aria-label="Tokens; shade: attention from the chosen query"></div>'
        "<noscript><p>Patterns need script; table and heatmaps do not.</p></noscript></section>"
    )


def _of_tower(portrait: Portrait) -> str:
    """Table and heatmaps of a tower."""
    about = "; ".join(f"{g['name']}: {g['about']}" for g in portrait.grounds)
    return (
        f'<section><h2>{escape(portrait.title)}</h2><p class="soft">{escape(about)}</p>'
        f"{_rows_html(portrait)}</section>{_pictures(portrait)}"
    )


def _table(portrait: Portrait) -> str:
    """What the table is, and the table."""
    said = legend(portrait, portrait.keys)
    said = f" {escape(said[0].upper() + said[1:])}." if said else ""
    return (
        "<section><h2>Table</h2>"
        '<p class="soft">Press a column to sort by it, a head to see its pattern. Read-outs, weights and causal '
        "effects are different kinds of evidence and are never added up."
        f"{said}</p>{_rows_html(portrait)}{_asked(portrait)}</section>"
    )


def _asked(portrait: Portrait) -> str:
    """Where heads look by kind of question."""
    tables = ((escape(heading), table_html(rows)) for heading, rows in by_question(portrait))
    return "".join(
        f'<p class="soft">{heading}</p><div class="wide">{table}</div>' for heading, table in tables
    )


def _rows_html(portrait: Portrait) -> str:
    """All columns, sortable; the null value of each is in its last row."""
    shown = [m for m in portrait.measurements if np.isfinite(m.values).any()]
    head = "".join(
        f'<th class="num" aria-sort="none" title="{escape(_tip(m))}"><button type="button">{escape(m.key)}</button>'
        f"<small>{escape(m.evidence)}</small></th>"
        for m in shown
    )
    rows = "".join(_row(row, shown) for row in portrait.rows())
    chance = "".join(f'<td class="num">{number(rounded(_null(m), m))}</td>' for m in shown)
    name = f"heads-{portrait.tower}" if portrait.tower else "heads"
    return (
        f'<div class="wide"><table id="{escape(name)}" class="heads"><thead><tr>'
        '<th aria-sort="none"><button type="button">head</button></th>'
        f"{head}<th>kind</th></tr></thead><tbody>{rows}</tbody>"
        f"<tfoot><tr><th>by chance</th>{chance}<td></td></tr></tfoot></table></div>"
    )


def _row(row: Mapping[str, Any], shown: Sequence[Measurement]) -> str:
    cells = []
    for m in shown:
        value, partner = row[m.key], row.get(f"{m.key} with")
        error = None if m.stderr is None else float(m.stderr[row["layer"], row["index"]])
        tip = (
            f' title="± {number(error)} standard error, n = {escape(m.n)}"'
            if error is not None and error == error
            else ""
        )
        beside = f" <small>{escape(partner)}</small>" if partner else ""
        exact = "" if value is None else f' data-value="{value!r}"'
        cells.append(f'<td class="num"{exact}{tip}>{number(rounded(value, m))}{beside}</td>')
    where = f'data-layer="{row["layer"]}" data-head="{row["index"]}"'
    return (
        f'<tr {where}><td><button type="button" class="address">{escape(row["head"])}</button></td>'
        f"{''.join(cells)}<td>{escape(row['label'])}</td></tr>"
    )


def _tip(m: Measurement) -> str:
    return f"{m.about}; by chance {number(_null(m))}: {m.null_about}"


def _null(m: Measurement) -> float | None:
    known = np.asarray(m.null)[np.isfinite(m.null)]
    return float(known.mean()) if len(known) else None


def _pictures(portrait: Portrait) -> str:
    drawn = heatmaps(portrait)
    parts = []
    for kind, about in _kinds().items():
        here = [drawn[m.key] for m in portrait.measurements if m.evidence == kind and m.key in drawn]
        if here:
            figures = "".join(f"<figure>{svg}</figure>" for svg in here)
            heading = {"read-out": "Read-outs", "weight": "Weights", "causal": "Causal effects"}[kind]
            parts.append(
                f'<section><h2>{heading}</h2><p class="soft">{escape(about)}</p>'
                f'<div class="figures">{figures}</div></section>'
            )
    return "".join(parts)


def _kinds() -> Mapping[str, str]:
    return EVIDENCE


def _definitions(portraits: Sequence[Portrait]) -> str:
    known = {m.key: m for portrait in portraits for m in portrait.measurements}
    rows = [
        {
            "column": m.key,
            "evidence": m.evidence,
            "what": m.about,
            "unit": m.unit,
            "from": "no bound" if m.low is None else number(m.low),
            "to": "no bound" if m.high is None else number(m.high),
            "by chance": number(_null(m)),
            "chance is": m.null_about,
            "n": m.n,
            "source": m.source,
        }
        for m in known.values()
    ]
    facts = table_html([{"what": k, "value": short(v)} for k, v in portraits[0].provenance.items()])
    return (
        f'<section><h2>What the columns mean</h2><div class="wide">{table_html(rows)}</div></section>'
        f"<section><h2>How it was measured</h2>{facts}</section>"
    )


def _notes(portraits: Sequence[Portrait]) -> str:
    said = [note for portrait in portraits for note in (*portrait.notes, *portrait.file_notes)]
    if not said:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in said)
    return f"<section><h2>What could not be measured, or was done differently</h2><ul>{items}</ul></section>"
