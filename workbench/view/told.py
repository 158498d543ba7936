"""Lines, facts and rows as the card of a result that is told in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.core.show import Told, card
from workbench.view.html import facts_html, short, table_html
from workbench.view.text import escape


@card(Told)
def told_card(found: Told) -> str:
    """Return the parts that a terminal shows, one under the other."""
    return parts_html(found.to_terminal())


def parts_html(parts: Iterable[Any]) -> str:
    """Return texts as paragraphs, line by line; mappings as facts; lists of mappings as tables."""
    return "".join(_part(part) for part in parts if part not in ("", None))


def _part(part: Any) -> str:
    if isinstance(part, Mapping):
        return facts_html(part)
    if isinstance(part, list | tuple) and part and all(isinstance(row, Mapping) for row in part):
        return table_html(part)
    return f"<p>{'<br/>'.join(escape(line) for line in short(part).split(chr(10)))}</p>"
