"""Scores against a known circuit: AUROC, AUPRC, and the curves they are the areas of.

Every edge of the graph that counts is a case, a positive when it is in the true circuit. What a method does not
score (NaN) is never dropped: it ranks below everything that is scored, tied with its like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench.circuits.scores import Index, Ranking, Scores
from workbench.circuits.selection.rules import RANKINGS
from workbench.core.errors import ShapeError, expect_word
from workbench.core.stats.agreement import average_ranks

Cases = Float[np.ndarray, "case"]
Labels = Bool[np.ndarray, "case"]
Points = tuple[tuple[float, float], ...]


def auroc(values: Cases, positive: Labels) -> float:
    """Return the chance that a random positive outscores a random negative, a tie counting one half; NaN without
    both.

    ``(sum of the positives' ranks - P (P + 1) / 2) / (P N)``, tied values sharing their mean rank.

    Source:
        The rank statistic of Mann and Whitney 1947.
    """
    _check(values, positive)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = average_ranks(_no_missing(values))
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def auprc(values: Cases, positive: Labels) -> float:
    """Average precision: ``sum (R_k - R_{k-1}) P_k`` over the distinct scores, best first; NaN without positives.

    Cases of equal score enter together, so no order among ties can change it. Without any ranking (all tied) it is
    the share of positives, which is therefore the value to compare with, not one half.
    """
    _check(values, positive)
    if not positive.any():
        return float("nan")
    hits, false = _cumulative(values, positive)
    recall = hits / positive.sum()
    precision = hits / (hits + false)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def roc_points(values: Cases, positive: Labels) -> Points:
    """(false positive rate, true positive rate) after each distinct score, from (0, 0) to (1, 1)."""
    _check(values, positive)
    hits, false = _cumulative(values, positive)
    n_positive, n_negative = max(1, int(positive.sum())), max(1, int((~positive).sum()))
    return ((0.0, 0.0), *zip((false / n_negative).tolist(), (hits / n_positive).tolist(), strict=True))


def area_under(points: Points) -> float:
    """Trapezoid over points ordered by x; for ``roc_points`` this is ``auroc`` again."""
    x, y = np.array(points, dtype=float).T
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def pr_points(values: Cases, positive: Labels) -> Points:
    """(recall, precision) after each distinct score, best first."""
    _check(values, positive)
    hits, false = _cumulative(values, positive)
    recall = hits / max(1, int(positive.sum()))
    return tuple(zip(recall.tolist(), (hits / (hits + false)).tolist(), strict=True))


def _check(values: np.ndarray, positive: np.ndarray) -> None:
    if values.shape != positive.shape or values.ndim != 1:
        raise ShapeError(
            f"{values.shape} scores and {positive.shape} labels; expected one of each per case",
            hint="give one score and one label for each case, each as one row",
        )


def _no_missing(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), -np.inf, values)


def _cumulative(values: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives among the cases that score at least as much, for each distinct score, best first."""
    _, group = np.unique(-_no_missing(values), return_inverse=True)
    hits = np.bincount(group, weights=positive)
    every = np.bincount(group)
    return np.cumsum(hits), np.cumsum(every - hits)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How well scores tell the true circuit from the rest.

    Attributes:
        ranking: ``absolute`` ranks by the size of a score, ``signed`` by the score.
        roc, pr: Points of the two curves.
        missed: Address and score of every positive that does not outscore all negatives, worst first.
        above: Address and score of every negative that outscores (or ties with) the weakest positive, best first.
    """

    auroc: float
    auprc: float
    n_positive: int
    n_negative: int
    ranking: Ranking
    roc: Points
    pr: Points
    missed: tuple[tuple[str, float], ...]
    above: tuple[tuple[str, float], ...]

    @property
    def exact(self) -> bool:
        """Whether every positive outscores every negative."""
        return not self.missed

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""

        def number(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        return {
            "auroc": number(self.auroc),
            "auprc": number(self.auprc),
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "ranking": self.ranking,
            "roc": [list(p) for p in self.roc],
            "pr": [list(p) for p in self.pr],
            "missed": [list(m) for m in self.missed],
            "above": [list(m) for m in self.above],
        }

    def __repr__(self) -> str:
        return (
            f"<Recovery: AUROC {self.auroc:.3f}, AUPRC {self.auprc:.3f}, {self.n_positive} of "
            f"{self.n_positive + self.n_negative}, by {self.ranking} score>"
        )


def recovery(
    scores: Scores,
    positive: Bool[np.ndarray, "*values"],
    counted: Bool[np.ndarray, "*values"] | None = None,
    *,
    by: Ranking = "absolute",
) -> Recovery:
    """Judge scores by labels of the same edges or nodes.

    Args:
        positive: What is in the true circuit, in the shape of ``scores.values``.
        counted: What is judged at all; everything by default. The input node is never judged: it is always kept.
        by: A method whose negative scores mean "works against" is ranked by size, as a circuit keeps both.

    Returns:
        AUROC and AUPRC from 0 to 1, and precision and recall at the size of the true circuit.

    Raises:
        ShapeError: if labels and scores are of different graphs, or the scores are per position.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> scores = wb.score(runs, "eap")
        >>> wb.recovery(scores, scores.values > 1).auroc > 0.5
        True
    """
    expect_word("ranking", by, RANKINGS)
    counted = np.ones_like(positive) if counted is None else counted
    if scores.positions:
        raise ShapeError(
            "scores per position cannot be judged by labels that have no positions",
            hint="score without positions: leave out --per-position",
        )
    if positive.shape != scores.values.shape or counted.shape != positive.shape:
        raise ShapeError(
            f"labels of shape {positive.shape} cannot judge {scores.level} scores of {scores.values.shape}: "
            "both must be of one graph",
            hint="make labels and scores of one graph: edge_labels(truth, scores.graph)",
        )
    judged = scores.candidates & counted
    labels, values = positive[judged], scores.values[judged]
    keys = np.abs(values) if by == "absolute" else values
    order = [tuple(i) for i in np.argwhere(judged).tolist()]
    return Recovery(
        auroc=auroc(keys, labels),
        auprc=auprc(keys, labels),
        n_positive=int(labels.sum()),
        n_negative=int((~labels).sum()),
        ranking=by,
        roc=roc_points(keys, labels),
        pr=pr_points(keys, labels),
        **_misplaced(scores, order, _no_missing(keys), labels),
    )


def _misplaced(
    scores: Scores, order: list[Index], keys: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Positives that do not outscore every negative, and negatives that do not stay below every positive."""
    if not labels.any() or labels.all():
        return {"missed": (), "above": ()}
    best_negative, worst_positive = keys[~labels].max(), keys[labels].min()
    ranked = np.argsort(keys, kind="stable")

    def named(chosen: list[int]) -> tuple[tuple[str, float], ...]:
        return tuple(
            (scores.address(order[i]), float(np.nan_to_num(scores.values[order[i]]))) for i in chosen
        )

    missed = [int(i) for i in ranked if labels[i] and keys[i] <= best_negative]
    above = [int(i) for i in ranked[::-1] if not labels[i] and keys[i] >= worst_positive]
    return {"missed": named(missed), "above": named(above)}
