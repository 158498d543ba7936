"""Published circuits by name, and as files."""

from __future__ import annotations

import os

from workbench.circuits.circuit import Circuit
from workbench.circuits.published.kinds import Published
from workbench.circuits.published.records import RECORDS
from workbench.core.errors import CircuitError, unknown

PREFIX = "published:"


def list_published() -> tuple[Published, ...]:
    """Return every published circuit, in the order of the page."""
    return RECORDS


def published_name(path: str | os.PathLike[str]) -> str | None:
    """Return ``ioi`` of ``published:ioi``; None for any other path."""
    text = os.fspath(path)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def find_published(name: str) -> Published:
    """Return one record by name, with or without ``published:``.

    Raises:
        CircuitError: if there is none of this name.
    """
    wanted = name.removeprefix(PREFIX)
    for record in RECORDS:
        if record.name == wanted:
            return record
    raise unknown("published circuit", wanted, [record.name for record in RECORDS], error=CircuitError)


def load_published(name: str) -> Circuit:
    """Return the circuit of this name.

    Example:
        >>> load_published("ioi").provenance["source"]
        'Wang, Variengien, Conmy, Shlegeris and Steinhardt 2023, arXiv:2211.00593'
    """
    return find_published(name).circuit()
