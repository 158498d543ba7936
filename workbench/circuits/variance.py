"""How much a circuit varies: over templates, over halves of the pairs, over single pairs, and on a null task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.core.show import Told

STEADY = 0.9  # share of pairs from which an edge's sign counts as the same
_OF_EDGES = ("effect", "spread", "signs")


@dataclass(frozen=True, kw_only=True, eq=False)
class Variance(Told):
    """Circuits found again on other choices of pairs.

    Attributes:
        templates: Templates with four pairs or more.
        overlap: ``(template, template)`` Jaccard of the circuits found on each.
        faithfulness: ``(template, template)`` of the circuit of one template (row) on the pairs of another (column).
        halves: Jaccard of the circuits of two halves of the pairs that share none, one for each split.
        resampled: Mean Jaccard over resampled pairs.
        null: The same where every pair has the answers of another pair; a circuit of nothing.
        each: ``(pair,)`` faithfulness of the circuit on single pairs; NaN where a pair has no gap.
        edges: Edges of the circuit whose exact effect was measured pair by pair, largest score first.
        effect, spread: ``(edge,)`` mean and standard deviation of these effects over pairs, in the metric's unit.
        signs: ``(edge,)`` share of the pairs whose effect has the sign of the mean.
    """

    templates: tuple[str, ...]
    overlap: np.ndarray
    faithfulness: np.ndarray
    halves: tuple[float, ...]
    resampled: float
    null: float
    each: np.ndarray
    edges: tuple[str, ...] = ()
    effect: np.ndarray = field(default_factory=lambda: np.zeros(0))
    spread: np.ndarray = field(default_factory=lambda: np.zeros(0))
    signs: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def edge_variation(self) -> np.ndarray:
        """``(edge,)`` coefficient of variation of exact effects: standard deviation over size of the mean."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.effect == 0, np.nan, self.spread / np.abs(self.effect))

    def edge_rows(self, n: int = 12) -> list[dict[str, Any]]:
        """Return the edges with the largest scores, one row each: effect, agreement of signs, variation."""
        return [
            {
                "edge": edge,
                "exact effect": float(self.effect[i]),
                "pairs of its sign": float(self.signs[i]),
                "coefficient of variation": float(self.edge_variation[i]),
            }
            for i, edge in enumerate(self.edges[:n])
        ]

    @property
    def over_null(self) -> float:
        """Jaccard of the task over that of the null task; papers ask for 1.5 or more."""
        return self.resampled / self.null if self.null else float("nan")

    @property
    def variation(self) -> float:
        """Coefficient of variation of the faithfulness of single pairs: standard deviation over mean."""
        known = self.each[np.isfinite(self.each)]
        return (
            float(known.std(ddof=1) / abs(known.mean())) if len(known) > 1 and known.mean() else float("nan")
        )

    def quantiles(self, at: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> tuple[float, ...]:
        """Return quantiles of the faithfulness of single pairs."""
        known = self.each[np.isfinite(self.each)]
        return tuple(float(x) for x in np.quantile(known, at)) if len(known) else (float("nan"),) * len(at)

    def facts(self) -> dict[str, Any]:
        """Each variance by name."""
        off = ~np.eye(len(self.templates), dtype=bool)
        low, _, middle, _, high = self.quantiles()
        return {
            "Jaccard over resampled pairs": self.resampled,
            "the same on the null task (answers of other pairs)": self.null,
            "task over null task": self.over_null,
            "Jaccard of two halves of the pairs, mean": float(np.mean(self.halves)) if self.halves else None,
            "templates": len(self.templates),
            "Jaccard of two templates, mean": float(self.overlap[off].mean()) if off.any() else None,
            "faithfulness on another template, mean": float(self.faithfulness[off].mean())
            if off.any()
            else None,
            "faithfulness of single pairs, 5 %, 50 %, 95 %": f"{low:.3f}, {middle:.3f}, {high:.3f}",
            "its coefficient of variation": self.variation,
            **self._edge_facts(),
        }

    def _edge_facts(self) -> dict[str, Any]:
        """What single edges do from pair to pair."""
        if not self.edges:
            return {}
        known = self.edge_variation[np.isfinite(self.edge_variation)]
        steady = int((self.signs >= STEADY).sum())
        return {
            f"edges whose exact effect has one sign in {STEADY:.0%} of the pairs": f"{steady} of {len(self.edges)}",
            "coefficient of variation of an edge's effect, median": float(np.median(known))
            if len(known)
            else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""

        def values(array: np.ndarray) -> Any:
            found = array.astype(object)
            found[~np.isfinite(array)] = None
            return found.tolist()

        matrices = {name: values(getattr(self, name)) for name in ("overlap", "faithfulness", "each")}
        single = {n: x if np.isfinite(x := getattr(self, n)) else None for n in ("resampled", "null")}
        return {
            "templates": list(self.templates),
            **matrices,
            **single,
            "halves": values(np.array(self.halves, dtype=float)),
            "edges": list(self.edges),
            **{name: values(getattr(self, name)) for name in _OF_EDGES},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Variance:
        """Read what ``to_dict`` wrote."""
        size = (len(data["templates"]),) * 2
        arrays: dict[str, Any] = {
            n: np.array(data[n], dtype=float).reshape(size) for n in ("overlap", "faithfulness")
        }
        of_edges: dict[str, Any] = {name: np.array(data.get(name) or (), dtype=float) for name in _OF_EDGES}
        single: dict[str, Any] = {
            n: float("nan") if data[n] is None else float(data[n]) for n in ("resampled", "null")
        }
        return cls(
            templates=tuple(data["templates"]),
            halves=tuple(np.array(data["halves"], dtype=float).tolist()),
            each=np.array(data["each"], dtype=float),
            edges=tuple(data.get("edges") or ()),
            **of_edges,
            **arrays,
            **single,
        )

    def matrix(self) -> list[dict[str, Any]]:
        """Faithfulness of the circuit of one template (row) on the pairs of another (column)."""
        return [
            {"circuit of": name, **dict(zip(self.templates, map(float, row), strict=True))}
            for name, row in zip(self.templates, self.faithfulness, strict=True)
        ]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        tables = [self.matrix()] if self.templates else []
        return [self.facts(), *tables, *([self.edge_rows()] if self.edges else [])]
