"""A case: the evidence of an evaluation file with its numbers as arrays, and intervals of its pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.statistics import (
    ROUNDING,
    Interval,
    TestResult,
    clearly_less,
    edge_minimality,
    mean_interval,
    ratio_interval,
)
from workbench.core.stats.dependent_pairs import cluster_index, cluster_means


class _Resampling(TypedDict):
    clusters: list[int]
    draws: int
    seed: int


class Case:
    """The evidence with its numbers as arrays."""

    def __init__(self, evaluation: Mapping[str, Any], criteria: Criteria | None = None) -> None:
        self.evidence: Mapping[str, Any] = evaluation["evidence"]
        self.criteria = criteria or Criteria.read(evaluation["criteria"])
        self.groups: Sequence[str] = evaluation["pairs"]["groups"]
        self.direction: int = evaluation["direction"]
        self.unit: str = evaluation["unit"]
        scores = self.evidence["scores"]
        self.model, self.circuit, self.nothing, self.complement = (
            np.array(scores[name], dtype=float) for name in ("model", "circuit", "nothing", "complement")
        )
        self.clusters = cluster_index(evaluation["pairs"].get("clusters"), len(self.model))

    @property
    def gap(self) -> float:
        return float(self.model.mean() - self.nothing.mean())

    @property
    def rounding(self) -> float:
        """Differences of scores below this are float32 in another order."""
        return float(ROUNDING * np.abs(self.model).max())

    def clearly_less(self, here: float | Sequence[float], there: float | Sequence[float]) -> np.ndarray:
        return clearly_less(here, there, self.rounding)

    def independent(self, pairs: np.ndarray | slice = slice(None)) -> int:
        """Say how many independent pairs there are, or are among some."""
        return len(np.unique(self.clusters[pairs]))

    def independently(self, scores: np.ndarray) -> np.ndarray:
        """One score for each independent pair: of pairs that belong together, their mean (from rules 3 on)."""
        return cluster_means(scores, self.clusters if self.criteria.rules > 2 else None)

    def enough(self, pairs: np.ndarray | slice = slice(None)) -> bool:
        """Say whether a verdict may rest on an interval of (some of) the pairs."""
        return self.independent(pairs) >= self.criteria.least_pairs

    def too_few(self, pairs: np.ndarray | slice = slice(None)) -> str:
        """Say what is said where it may not; empty where it may."""
        if self.enough(pairs):
            return ""
        n, least = self.independent(pairs), self.criteria.least_pairs
        return f"; too few to tell: {n} independent pairs, and below {least} such intervals miss the truth too often"

    def interval(
        self,
        circuit: np.ndarray,
        full: np.ndarray,
        empty: np.ndarray,
        pairs: np.ndarray | slice = slice(None),
    ) -> Interval:
        """Of a faithfulness, of (some of) the pairs."""
        return ratio_interval(circuit[pairs], full[pairs], empty[pairs], **self._how(pairs))

    def mean_interval(self, change: np.ndarray, pairs: np.ndarray | slice = slice(None)) -> Interval:
        """Of the mean of some pairs' values."""
        return mean_interval(change, **self._how(pairs))

    def _how(self, pairs: np.ndarray | slice) -> _Resampling:
        return {
            "clusters": self.clusters[pairs].tolist(),
            "draws": self.criteria.resamples,
            "seed": self.criteria.seed,
        }

    def near_one(self, interval: Interval, pairs: np.ndarray | slice = slice(None)) -> bool | None:
        """Say whether a faithfulness is within the tolerance of 1; None where the pairs are too few to say so."""
        low, high = 1 - self.criteria.tolerance, 1 + self.criteria.tolerance
        return within(interval, low, high) if self.enough(pairs) else None

    def distance(self) -> float:
        return float(((self.circuit - self.model) ** 2).mean())

    def edge_tests(self) -> tuple[TestResult, ...]:
        edges, c = self.evidence["edges"], self.criteria
        changes = {
            row["edge"]: float(((self.circuit - np.array(row["left_out"], dtype=float)) ** 2).mean())
            for row in edges["left_out"]
        }
        return edge_minimality(
            changes,
            edges["reference"],
            floor=self.rounding,
            share=c.share,
            correction=c.correction,
            alpha=c.alpha,
            seed=edges["seed"],
        )


def within(interval: Interval, low: float, high: float) -> bool | None:
    """Say whether an interval lies inside bounds (True), outside (False), or across one or is not defined (None)."""
    if not np.isfinite(interval.low):
        return None
    if low <= interval.low and interval.high <= high:
        return True
    return False if interval.high < low or interval.low > high else None
