"""One measurement of every head: its numbers, their bounds and null values, and the kind of evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from workbench.core.errors import ShapeError
from workbench.heads.file import MeasurementContent

Evidence = Literal["read-out", "weight", "causal"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """One number per head, with what it can be, what chance gives, and what kind of evidence it is.

    Attributes:
        name: ``induction``; the key of a column is ``induction`` on random tokens or weights, ``induction@text``
            on a text.
        on: ``random``, ``text``, ``weights`` or ``pictures``.
        values: ``(layer, head)``; NaN where there is none, with the reason in ``missing``.
        stderr: Standard error over sequences, where there are several.
        null: What a uniform head (read-outs), a random one (weights) or one that writes nothing (causal) gets.
        low, high: The least and the most it can be; None where there is no bound.
        missing: Reason -> layers it holds for; a tuple of no layers means all.
        partners: The earlier head that a composition score is with, ``(layer, head)`` texts.
    """

    name: str
    on: Literal["random", "text", "weights", "pictures"]
    evidence: Evidence
    values: np.ndarray
    stderr: np.ndarray | None = None
    null: np.ndarray
    low: float | None
    high: float | None
    unit: str
    about: str
    null_about: str
    source: str = ""
    n: int = 0
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    partners: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        for what in (self.stderr, self.null):
            if what is not None and np.shape(what) != np.shape(self.values):
                raise ShapeError(
                    f"{self.key}: values {np.shape(self.values)}, beside them {np.shape(what)}",
                    hint="give one number for each layer and head",
                )

    @property
    def key(self) -> str:
        """The column's name."""
        return f"{self.name}@text" if self.on == "text" else self.name

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        plain = ("name", "on", "evidence", "low", "high", "unit", "about", "null_about", "source", "n")
        return {
            **{name: getattr(self, name) for name in plain},
            "values": _numbers(self.values),
            "stderr": None if self.stderr is None else _numbers(self.stderr),
            "null": _numbers(self.null),
            "missing": {why: list(layers) for why, layers in self.missing.items()},
            "partners": None if self.partners is None else [list(row) for row in self.partners],
        }

    @classmethod
    def of(cls, content: MeasurementContent) -> Measurement:
        """Return the measurement that a file holds."""
        return cls(
            name=content.name,
            on=content.on,
            evidence=content.evidence,
            low=content.low,
            high=content.high,
            unit=content.unit,
            about=content.about,
            null_about=content.null_about,
            source=content.source,
            n=content.n,
            values=_array(content.values),
            null=_array(content.null),
            stderr=None if content.stderr is None else _array(content.stderr),
            missing={why: tuple(layers) for why, layers in content.missing.items()},
            partners=None if content.partners is None else tuple(map(tuple, content.partners)),
        )


def _numbers(values: np.ndarray) -> list[list[float | None]]:
    return [[number_or_none(v) for v in row] for row in np.asarray(values)]


def number_or_none(value: float) -> float | None:
    """Return a number as JSON has it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def _array(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=float)
