"""Claims and their verdicts as a table of HTML: the word is coloured, and readable without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.view.html import table_html

_COLORS = {
    "holds": "var(--yes, #2c7a4b)",
    "fails": "var(--no, #b3401a)",
    "cannot be tested here": "var(--open, #6b6b6b)",
}


def claims_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with a column ``verdict``, which may say how far it reaches; all text is escaped."""
    if not rows:
        return "<p>no claims</p>"
    said = {str(row.get("verdict", "")) for row in rows}
    return table_html(
        rows,
        colors={text: color for text in said for word, color in _COLORS.items() if text.startswith(word)},
    )
