"""What commands answer with besides results of the library: rows that are listed, and text that goes to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.core.show import Told

STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class Listing(Told):
    """Rows of a list.

    Attributes:
        rows: Everything that is known of each, as ``--json`` has it.
        shown: What a terminal shows of each; all of it when None.
        nothing: What is said in place of no rows.
    """

    rows: Sequence[Mapping[str, Any]]
    shown: Sequence[Mapping[str, Any]] | None = None
    nothing: str = "nothing"

    def to_dict(self) -> list[dict[str, Any]]:
        """Return it as JSON values."""
        return [dict(row) for row in self.rows]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return list(self.rows if self.shown is None else self.shown) or [self.nothing]


def columns_used(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Leave out the columns in which no row says anything.

    Example:
        >>> columns_used([{"a": 1, "b": ""}, {"a": 2, "b": None}], ["a", "b"])
        [{'a': 1}, {'a': 2}]
    """
    used = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    return [{name: row.get(name) for name in used} for row in rows]


@dataclass(frozen=True, kw_only=True)
class Output(Told):
    """Text that a command wrote to a file, or that is for standard output, byte for byte.

    Attributes:
        facts: What is known of it, as ``--json`` has it.
    """

    text: str
    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def raw(self) -> str:
        """What standard output gets as it is; empty where it went to a file."""
        return self.text if self.path == STDOUT else ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.facts, **({"text": self.text} if self.path == STDOUT else {"path": str(self.path)})}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [self.to_dict()]
