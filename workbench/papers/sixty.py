"""The sixty papers that are to be measured again: number, short name, title and year, from ``papers.json``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from workbench.core.errors import OptionError, WorkbenchError, unknown

DATA = Path(__file__).with_name("papers.json")


@cache
def sixty() -> tuple[dict[str, Any], ...]:
    """Number, short name, title and year of every paper of the list, in order."""
    return tuple(json.loads(DATA.read_text(encoding="utf-8")))


def listed(name: str) -> dict[str, Any]:
    """What the list says of a paper, such as what it ``says`` in plain words; nothing of one that is not on it."""
    return next((paper for paper in sixty() if paper["name"] == name), {})


def not_built(name: str, built: tuple[str, ...]) -> WorkbenchError:
    """Error for a paper that is not built: with its title where it is on the list, else with the closest names."""
    for paper in sixty():
        if paper["name"] == name:
            return OptionError(
                f"paper {paper['number']}, {name} ({paper['title']}, {paper['year']}), is not built yet",
                hint="workbench replicate list says which are",
            )
    known = [*built, *(paper["name"] for paper in sixty())]
    return unknown("replication", name, known, error=OptionError)
