"""Claims and their verdicts as a table of HTML: the word is coloured, and readable without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.text import escape
from workbench.view.html import table_html

_COLORS = {"holds": "#2c7a4b", "fails": "#b3401a", "cannot be tested here": "#6b6b6b"}


def claims_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with a column ``verdict``, which may say how far it reaches; all text is escaped."""
    if not rows:
        return "<p>no claims</p>"
    table = table_html(rows)
    for said in {str(row.get("verdict", "")) for row in rows}:
        color = next((color for word, color in _COLORS.items() if said.startswith(word)), None)
        plain = f'<td style="text-align:left">{escape(said)}</td>'
        if color:
            table = table.replace(plain, plain.replace("left", f"left;font-weight:600;color:{color}", 1))
    return table
