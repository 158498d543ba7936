"""The second half of docs/families.md: a row for every architecture of TransformerLens."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.families.rows import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
MARK = "## Every architecture of TransformerLens"


def written(rows: Sequence[Row]) -> str:
    """The half as Markdown."""
    equal = sum(row.equal for row in rows)
    head = ["architecture", "opens by", "parity", "heads", "difference", "least effect", "edges", "equal"]
    lines = [_line(head), _line(["---"] * len(head)), *(_line(_cells(row)) for row in rows)]
    return "\n".join([MARK, "", _INTRO.format(equal=equal, n=len(rows), versions=versions()), *lines, ""])


def versions() -> str:
    """The versions that decide what the rows say."""
    return f"TransformerLens {version('transformer-lens')}, transformers {version('transformers')}"


def replace_half(text: str) -> None:
    """Write the half to the page; the first half stays."""
    first = PAGE.read_text(encoding="utf-8").split(MARK)[0].rstrip()
    PAGE.write_text(f"{first}\n\n{text}", encoding="utf-8")


def read_half() -> dict[str, list[str]]:
    """Name -> the other cells, as the page has them."""
    half = PAGE.read_text(encoding="utf-8").split(MARK)[1]
    rows = [[c.strip(" `") for c in line.strip("|").split("|")] for line in half.splitlines() if "|" in line]
    return {name: cells for name, *cells in rows[2:]}


def _cells(row: Row) -> list[str]:
    numbers = [_number(row.parity), str(row.heads or ""), _number(row.difference), _number(row.least)]
    return [f"`{row.name}`", row.opens, *numbers, row.edges, "yes" if row.equal else f"no: {row.why}"]


def _number(value: float | None) -> str:
    """A power of ten: the digits differ from machine to machine."""
    return "" if value is None else "0" if value == 0 else f"{value:.0e}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_INTRO = """Made by `python -m benchmarks.families` ({versions}). For each name a tiny
random model is made from its configuration class, written to disk and opened. Every head is turned off by the engine,
and by torch and transformers alone: the head's columns of the input of its output projection are zero, one prompt and
one forward pass at a time. *Difference* is the largest between the two metrics, *least effect* that of the head that
does least. **{equal} of {n} are equal**, with an effect of every head. *Edges* says whether edges of the model's own
stack have an exact value, and why not; edges from a tower into a language model: `docs/tower-circuits.md`.
"""
