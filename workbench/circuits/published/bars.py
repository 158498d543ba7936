"""Numbers that others published, as bars: value, source, data, rule, tolerance; and ours beside them. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from workbench.circuits.graph import Graph, GraphShape
from workbench.core.errors import OptionError, unknown
from workbench.core.show import Told
from workbench.core.strict_json import parse

FILE = Path(__file__).with_name("bars.json")
MEASURED = ("edge-counts", "eap-ig-curves", "mib", "acdc-auc")
"""Sets that ``workbench replicate`` measures by the rules of their source; the others name the command that does."""

SHAPES = {
    "gpt2": GraphShape(n_layers=12, n_heads=12, n_kv_heads=12),
    "gpt2-medium": GraphShape(n_layers=24, n_heads=16, n_kv_heads=16),
    "gpt2-xl": GraphShape(n_layers=48, n_heads=25, n_kv_heads=25),
    "pythia-2.8b": GraphShape(n_layers=32, n_heads=32, n_kv_heads=32, parallel=True),
}


@dataclass(frozen=True, kw_only=True)
class PublishedNumber:
    """One published number.

    Attributes:
        group: The set it belongs to.
        model: The model it is of, by the last part of its name.
        quantity: What was measured; ours has the same name.
        tolerance: How far ours may be from it; ours to decide, no part of the source.
        measured_by: The command that measures it, where that is not ``workbench replicate`` of its set.
    """

    group: str
    model: str
    task: str
    quantity: str
    value: float
    tolerance: float
    source: str
    data: str
    rule: str
    measured_by: str = ""


@cache
def list_bars() -> tuple[PublishedNumber, ...]:
    """Return every bar of the file.

    Example:
        >>> sorted({bar.group for bar in list_bars()})
        ['acdc-auc', 'eap-ig-curves', 'edge-counts', 'elsewhere', 'mib']
    """
    rows = parse(FILE.read_text("utf-8"), where=FILE.name)["bars"]
    return tuple(
        PublishedNumber(group=row["set"], **{k: v for k, v in row.items() if k != "set"}) for row in rows
    )


def bars_of(group: str) -> tuple[PublishedNumber, ...]:
    """Return the bars of one set.

    Raises:
        OptionError: if there is none.
    """
    found = tuple(bar for bar in list_bars() if bar.group == group)
    if not found:
        raise unknown(
            "set of bars", group, dict.fromkeys(bar.group for bar in list_bars()), error=OptionError
        )
    return found


def edge_counts() -> dict[tuple[str, str, str], float]:
    """Count the edges of published models from the shapes of their graphs alone.

    Returns:
        ``(model, "", "edges")`` -> how many.

    Example:
        >>> int(edge_counts()["gpt2", "", "edges"])
        32491
    """
    return {(name, "", "edges"): float(Graph(shape).n_edges) for name, shape in SHAPES.items()}


@dataclass(frozen=True, kw_only=True)
class PublishedNumbers(Told):
    """Published numbers beside ours.

    Attributes:
        model: What was measured; empty where no model is needed.
        ours: (model, task, quantity) -> value, in the unit of the bar.
        notes: What was not measured, and why.
    """

    group: str
    model: str
    bars: tuple[PublishedNumber, ...]
    ours: Mapping[tuple[str, str, str], float]
    notes: Sequence[str] = ()

    def verdict(self, bar: PublishedNumber) -> str:
        """Say whether ours is within the tolerance; a stand-in is never compared.

        Returns:
            ``within``, ``outside``, ``another model`` or ``not measured``.
        """
        if bar.measured_by:
            return f"not here: {bar.measured_by}"
        if self.model and not self.is_of(bar):
            return "another model"
        own = self._own(bar)
        if own is None:
            return "not measured"
        # 1e-9: a difference of decimal fractions in binary
        return "within" if abs(own - bar.value) <= bar.tolerance + 1e-9 else "outside"

    def is_of(self, bar: PublishedNumber) -> bool:
        """Say whether a bar is of the model that was measured."""
        return self.model.rstrip("/").rsplit("/", 1)[-1].lower() == bar.model

    def _own(self, bar: PublishedNumber) -> float | None:
        value = self.ours.get((bar.model, bar.task, bar.quantity))
        value = self.ours.get(("", bar.task, bar.quantity)) if value is None else value
        return None if value is None or not math.isfinite(value) else value

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per bar with ours, theirs and a verdict; on a stand-in, those that it was measured for."""
        shown = [b for b in self.bars if not self.model or self.is_of(b)] or [
            b for b in self.bars if self._own(b) is not None and b.model == self.bars[0].model
        ]
        return [
            {
                "model": bar.model,
                "task": bar.task,
                "quantity": bar.quantity,
                "ours": _as(self._own(bar), bar.value),
                "theirs": bar.value,
                "tolerance": bar.tolerance,
                "verdict": self.verdict(bar),
            }
            for bar in shown
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, with source and rule of every bar."""
        known = {(b.model, b.task, b.quantity): b for b in self.bars}
        rows = [
            {
                **row,
                **{name: getattr(known[row["model"], row["task"], row["quantity"]], name) for name in _TOLD},
            }
            for row in self.rows()
        ]
        return {"set": self.group, "model": self.model, "rows": rows, "notes": list(self.notes)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        sources = dict.fromkeys(bar.source.partition(", results")[0] for bar in self.bars)
        return [self.rows(), f"from {'; '.join(sources)}", *self.notes]

    @property
    def outside(self) -> int:
        """How many are outside their tolerance."""
        return sum(self.verdict(bar) == "outside" for bar in self.bars)


def _as(own: float | None, like: float) -> float | None:
    """Ours as a whole number where theirs is one."""
    return int(own) if own is not None and isinstance(like, int) and own == int(own) else own


_TOLD = ("source", "data", "rule")
