"""Results on a terminal: tables, heatmaps, progress. The only place, with `terminal_columns`, that imports rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from workbench.view.color import MISSING, ink, limit, signed
from workbench.view.heatmap import cell_text
from workbench.view.terminal_columns import Fields, FittedTable
from workbench.view.text import number, printable, shorten

Advance = Callable[..., None]
ANSWERS = ("verdict", "verdicts", "status")  # columns for which a table is read
_NARROWEST, _PIPED, _WIDEST = 20, 200, 10_000  # columns


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console on stdout (or stderr) without markup, emoji codes or highlighting.

    Colours only on a terminal and without ``NO_COLOR``. Piped output is 200 columns wide, or ``COLUMNS``, but never
    narrower than 20 or wider than 10,000.
    """
    stream = sys.stderr if stderr else sys.stdout
    if width is None:
        told = os.environ.get("COLUMNS", "")
        known = int(told[:6]) if told.isascii() and told.isdecimal() else 0  # 0 stands for unknown
        if known or not stream.isatty():
            width = min(max(known, _NARROWEST), _WIDEST) if known else _PIPED
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width, soft_wrap=False)


def safe(value: object, *, style: str = "") -> Text:
    """Return a value as rich text that no markup or control character in it can change."""
    shown = number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return Text(printable(shown, keep_newlines=True), style=style)


def render(result: Any) -> RenderableType:
    """Say what a result looks like on a terminal.

    An object may bring ``to_terminal()`` (lines of text, rows or a table made here); lists of mappings become tables,
    mappings become two columns, the rest its text.
    """
    if hasattr(result, "to_terminal"):
        return render(result.to_terminal())
    if isinstance(result, RenderableTypes):
        return result
    if isinstance(result, Mapping):
        return fields(result)
    if isinstance(result, Sequence) and not isinstance(result, str | bytes):
        rows = list(result)
        if rows and all(isinstance(row, Mapping) for row in rows):
            return table(rows)
        return Group(*(render(row) for row in rows)) if rows else safe("nothing", style="dim")
    return safe(result)


RenderableTypes = (Text, FittedTable, Fields, Table, Group)


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    title: str = "",
    right: Sequence[str] = (),
    staying: Sequence[str] = ANSWERS,
) -> FittedTable:
    """Return rows of equal keys as a table; columns of numbers are right-aligned, numbers have three digits.

    Where a terminal is too narrow, columns are left out and named; the first one and those ``staying`` go last.
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(k for row in rows for k in row))
    by_name = {name: [row.get(name) for row in rows] for name in names}
    return FittedTable(
        [safe(name) for name in names],
        [[_cell(row.get(name)) for name in names] for row in rows],
        right=[bool(rows) and (name in right or all(map(_numeric, by_name[name]))) for name in names],
        title=safe(title) if title else None,
        staying=staying,
    )


def _numeric(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def fields(values: Mapping[str, Any], *, title: str = "") -> Fields:
    """Return names and values in two columns; nested mappings and lists in short form."""
    return Fields([(safe(k), _cell(v)) for k, v in values.items()], title=safe(title) if title else None)


def _cell(value: Any) -> Text:
    if value is None:
        return safe("–", style="dim")
    if isinstance(value, bool):
        return safe("yes" if value else "no")
    if isinstance(value, Mapping):
        return safe(", ".join(f"{k} {_plain(v)}" for k, v in value.items()))
    if isinstance(value, list | tuple):
        return safe(", ".join(_plain(v) for v in value))
    return safe(value.item() if isinstance(value, np.generic) else value)


def _plain(value: Any) -> str:
    return _cell(value).plain


def heatmap_terminal(
    matrix: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str = "",
    unit: str = "",
    marks: np.ndarray | None = None,
) -> Group:
    """Return a ``(row, column)`` matrix as coloured cells with their numbers: blue positive, orange negative.

    Readable without colour too. Values are written in the power of ten the largest needs; NaN is a dot. ``marks`` of
    1 and 2 stand as stars behind the numbers.
    """
    matrix = np.asarray(matrix, dtype=float)
    top = limit(matrix)
    stars = np.zeros(matrix.shape, dtype=int) if marks is None else np.nan_to_num(marks).astype(int)
    texts = [
        [
            "·" if np.isnan(v) else cell_text(float(v), top) + "*" * int(n)
            for v, n in zip(row, own, strict=True)
        ]
        for row, own in zip(matrix, stars, strict=True)
    ]
    wide = max([4, *(len(t) for row in texts for t in row), *(len(printable(str(c))) for c in column_labels)])
    wide = min(wide, 14) + 1
    stub = max([1, *(len(printable(str(r))) for r in row_labels)])
    lines = [Text(" " * (stub + 1) + "".join(_fit(c, wide) for c in column_labels), style="bold")]
    for label, row, shown in zip(row_labels, matrix, texts, strict=True):
        line = Text(f"{printable(str(label)):>{stub}} ", style="bold")
        for value, text in zip(row, shown, strict=True):
            line.append(f"{text:>{wide - 1}} ", style=_style(value, top))
        lines.append(line)
    lines.append(
        Text(f"{' ' * stub} scale −{number(top)} to +{number(top)} {printable(unit)}".rstrip(), style="dim")
    )
    head = [safe(title, style="bold")] if title else []
    for line in (*head, *lines):
        line.no_wrap, line.overflow = True, "ignore"
    return Group(*head, *lines)


def _fit(label: object, wide: int) -> str:
    return f"{shorten(printable(str(label)), wide - 1):>{wide - 1}} "


def _style(value: float, top: float) -> Style:
    color = MISSING if np.isnan(value) else signed(value / top)
    return Style(color=ink(color), bgcolor="#{:02x}{:02x}{:02x}".format(*color), bold=False)


@contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """A bar on stderr, only where stderr is a terminal and ``NO_COLOR`` is not set.

    Yields ``advance(done, total, what="")``.
    """
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        yield lambda done, total, what="": None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(title), total=None)

        def advance(done: int, total: int, what: str = "") -> None:
            text = f"{title}: {what}" if what else title
            bar.update(task, completed=done, total=total, description=printable(text))

        yield advance


__all__ = [
    "console",
    "fields",
    "heatmap_terminal",
    "number",
    "printable",
    "progress_bar",
    "render",
    "safe",
    "table",
]
