"""A bench as a part of a page of documentation: between two marks, so that no number there is written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.bench.table import BenchResult
from workbench.errors import RunError
from workbench.io import write_atomic

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def write_docs(result: BenchResult, page: Path) -> Path:
    """Replace what is between the marks of a page by the tables of this bench.

    Raises:
        RunError: if the page is not there or has no marks.
    """
    page = Path(page)
    text = page.read_text("utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RunError(
            f"{page} has no part between {BEGIN} and {END}", hint="write the two marks into the page"
        )
    return write_atomic(page, f"{before}{BEGIN}\n{markdown(result)}\n{END}{after}")


def markdown(result: BenchResult) -> str:
    """The tables, each under its caption, and how they were measured."""
    parts = [result.how()]
    for caption, rows in result.tables().items():
        if rows:
            parts += [f"**{caption}**", table(rows)]
    return "\n\n".join(parts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table, numbers with three digits."""
    names = list(rows[0])
    numeric = {n: all(isinstance(row[n], int | float | None) for row in rows) for n in names}
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + "|".join("--:" if numeric[n] else "---" for n in names) + "|",
        *("| " + " | ".join(_cell(row[n]) for n in names) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if "->" in text and "," not in text else text.replace("<", "&lt;").replace(">", "&gt;")
