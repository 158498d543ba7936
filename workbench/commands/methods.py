"""``workbench methods``: the methods that score nodes or edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.commands.told import Listing
from workbench.core.command import Command, command
from workbench.core.job import Job
from workbench.methods.registry import METHODS, Method


@command("methods", offers=())
@dataclass(frozen=True, kw_only=True)
class ListMethods(Command):
    """List the methods that score nodes or edges.

    Example: workbench methods
    """

    def run(self, job: Job) -> Listing:
        return Listing(rows=[_row(name, found) for name, found in METHODS.items()])


def _row(name: str, found: Method) -> dict[str, Any]:
    options = (f"{o}={_short(getattr(found.options(), o))}" for o in found.option_names())
    return {
        "method": name,
        "levels": ", ".join(found.levels),
        "options": ", ".join(options) or "-",
        "claim": found.claim,
        "source": found.source,
    }


def _short(value: object) -> str:
    """An option's default as one would type it; 2.1972245773362196 is 2.2."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
