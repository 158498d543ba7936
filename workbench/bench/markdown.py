"""A bench as a part of a page of documentation: between two marks, so that no number there is written by hand."""

from __future__ import annotations

from pathlib import Path

from workbench.bench.table import BenchResult
from workbench.circuits.files.markdown import replace_part, table, words

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def write_docs(result: BenchResult, page: Path) -> Path:
    """Replace what is between the marks of a page by the tables of this bench.

    Raises:
        RunError: if the page is not there or has no marks.
    """
    return replace_part(page, BEGIN, END, markdown(result))


def markdown(result: BenchResult) -> str:
    """Return the tables, each under its caption, and how they were measured."""
    parts = [words(part) for part in result.how().split("\n\n")]
    for caption, rows in result.tables().items():
        if rows:
            parts += [f"**{words(caption)}**", table(rows)]
    return "\n\n".join(parts)
