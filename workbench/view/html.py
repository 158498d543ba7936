"""Rows and text as HTML, and a report page made of them; every foreign text is escaped here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.view.page import asset, frame
from workbench.view.text import escape, number

LONG = 40  # characters: a text of more is a sentence
HALF, FEW_COLUMNS, FEW_TEXT = (
    660,
    6,
    900,
)  # points of a picture, columns, characters: two such sections share a row


def short(value: Any) -> str:
    """Return a value in a line: numbers with three digits, mappings and lists by their parts."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {short(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(short(v) for v in value)
    return str(value)


def table_html(
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    caption: str = "",
    colors: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """Return rows of equal keys as an HTML table; numbers right-aligned with three digits, all text escaped.

    Args:
        colors: Texts of cells -> the colour that they are written in, bold.
        links: Texts of cells -> the address that they lead to.
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(k for row in rows for k in row))
    numeric = {name: _is_numeric(row.get(name) for row in rows) for name in names}
    texts = [short(row.get(name)) for row in rows for name in names if not numeric[name]]
    # Notebooks align every cell right; text is read from the left.
    kind = {name: ' class="num"' if numeric[name] else ' style="text-align:left"' for name in names}
    head = "".join(f"<th{kind[n]}>{escape(n)}</th>" for n in names)

    def cell(name: str, value: Any) -> str:
        text = short(value)
        color, link = (colors or {}).get(text), (links or {}).get(text)
        inner = f'<a href="{escape(link)}">{escape(text)}</a>' if link else escape(text)
        inner = f'<b style="color:{escape(color)}">{inner}</b>' if color else inner
        return f'<td{kind[name]} data-column="{escape(name)}">{inner}</td>'

    body = "".join("<tr>" + "".join(cell(n, row.get(n)) for n in names) + "</tr>" for row in rows)
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    of = "texts" if _long(texts) else "rows"
    return f'<table class="{of}">{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _long(texts: Sequence[str]) -> bool:
    """Whether a table has sentences: on a phone each of its rows is then a block, so that no column is out of sight."""
    return any(len(text) > LONG for text in texts)


def facts_html(facts: Mapping[str, Any], *, caption: str = "") -> str:
    """Return names and values, one a line; what is empty is left out."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name.replace("_", " "))}</th>'
        f'<td style="text-align:left">{escape(short(value))}</td></tr>'
        for name, value in facts.items()
        if value not in ("", None)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<tbody>{rows}</tbody></table>"


def _is_numeric(values: Any) -> bool:
    found = [v for v in values if v is not None]
    return bool(found) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)


def results_page(title: str, sections: Sequence[tuple[str, str]], *, lead: str = "") -> str:
    """Return a report: a title and sections of (heading, markup). Headings, title and lead are escaped here.

    The markup of a section comes from ``heatmap_svg``, ``curve_svg``, ``circuit_svg``, ``table_html`` or
    ``text_html``, which escape what they show. Scripts in it do not run: the page's policy forbids them.
    """
    parts = [
        f'<main class="report columns"><header><div><h1>{escape(title)}</h1>',
        f'<p class="soft">{escape(lead)}</p></div><button type="button" id="theme">Dark</button></header>',
    ]
    halves = _halves([_is_narrow(markup) for _, markup in sections])
    for (heading, markup), half in zip(sections, halves, strict=True):
        kind = "half" if half else "whole"
        parts.append(f'<section class="{kind}"><h2>{escape(heading)}</h2>{markup}</section>')
    return frame(title=title, body="".join([*parts, "</main>"]), scripts=(asset("theme.js"),))


def _is_narrow(markup: str) -> bool:
    """Whether a section fits in half of a wide screen: small pictures, tables of few columns, little text."""
    wide = any(int(float(width)) > HALF for width in re.findall(r'<svg[^>]* width="([\d.]+)"', markup))
    columns = max((head.count("<th") for head in re.findall(r"<thead>.*?</thead>", markup)), default=0)
    long = (
        'class="texts"' in markup or len(re.sub(r"<svg.*?</svg>|<[^>]*>", "", markup, flags=re.S)) > FEW_TEXT
    )
    return not wide and columns <= FEW_COLUMNS and not long


def _halves(narrow: Sequence[bool]) -> list[bool]:
    """Which sections share a row with a neighbour; of three narrow ones in a row the last has its own.

    Example:
        >>> _halves([True, True, True, False, True])
        [True, True, False, False, False]
    """
    halves: list[bool] = []
    while len(halves) < len(narrow):
        both = narrow[len(halves) : len(halves) + 2] == [True, True]
        halves += [True, True] if both else [False]
    return halves


def text_html(text: str) -> str:
    """Return plain text as paragraphs: an empty line begins a new one."""
    return "".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())
