"""Rows as CSV, for people who read tables in spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.text import printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; a cell or a heading that a spreadsheet would run as a formula is made text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([inert(name) for name in names])
    for row in rows:
        cells = (row.get(name) for name in names)
        writer.writerow(["" if v is None else inert(v) if isinstance(v, str) else v for v in cells])
    return out.getvalue()


def inert(text: str) -> str:
    """Return text that no spreadsheet takes for a formula and no terminal for a command; a number stays one.

    Example:
        >>> inert("=1+1"), inert("-1.5"), inert("-1+1"), inert("name mover")
        ("'=1+1", '-1.5', "'-1+1", 'name mover')
    """
    shown = printable(text)
    return f"'{shown}" if text.startswith(_FORMULA) and not _is_number(text) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
