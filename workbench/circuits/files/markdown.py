"""Measured tables as a part of a page of documentation: between two marks, so that no number there is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.core.atomic import write_atomic
from workbench.core.bounds import exists
from workbench.core.errors import RunError
from workbench.core.strict_json import read_text
from workbench.core.text import printable

_MARKS = re.compile(r"[\\`|\[\]]")  # what begins code, a cell, a link or a picture
_CODE = re.compile(r"[\w.<>@+:\-() ]+->[\w.<>@+:\-() ]+")  # an edge by its address


def replace_part(page: Path, begin: str, end: str, text: str) -> Path:
    """Replace what is between two marks of a page.

    Raises:
        RunError: if the page is not there or has no marks.
    """
    page = Path(page)
    whole = read_text(page, error=RunError) if exists(page) else ""
    before, first, rest = whole.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise RunError(
            f"{page} has no part between {begin} and {end}", hint="write the two marks into the page"
        )
    return write_atomic(page, f"{before}{begin}\n{text}\n{end}{after}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of equal keys as a Markdown table, numbers with three digits."""
    names = list(rows[0])
    numeric = {n: all(isinstance(row[n], int | float | None) for row in rows) for n in names}
    lines = [
        "| " + " | ".join(map(words, names)) + " |",
        "|" + "|".join("--:" if numeric[n] else "---" for n in names) + "|",
        *("| " + " | ".join(_cell(row[n]) for n in names) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
    text = str(value).replace("\n", " ")
    return f"`{text}`" if _CODE.fullmatch(text) else words(text)


def words(text: str) -> str:
    r"""Return text that Markdown shows as it is: no markup, link, picture or code begins in it.

    Example:
        >>> words("<b> [x](y) a|b")
        '&lt;b&gt; \\[x\\](y) a\\|b'
    """
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\g<0>", plain)
