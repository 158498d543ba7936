"""What a verdict is, and the lines that verdicts are drawn by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Where the lines are drawn; saved with the evidence.

    Attributes:
        tolerance: How far from 1 a faithfulness may be.
        incompleteness: Largest difference of circuit and model without the same parts, as a share of the gap.
        least_effect: Smallest effect of a part that matters, as a share of the gap.
        epsilon: Of the equivalence test.
        share: Of random circuits or edges that must be beaten.
        jaccard: Least mean overlap of circuits found on resampled pairs.
    """

    tolerance: float = 0.2
    incompleteness: float = 0.2
    least_effect: float = 0.01
    epsilon: float = 0.1
    share: float = 0.9
    alpha: float = 0.05
    jaccard: float = 0.8
    correction: str = "holm"
    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One question about a circuit, what was measured, the criterion, and the answer.

    Attributes:
        holds: True, False, or None where the evidence does not decide (or is missing: ``measured`` says why).
        value: The number that was held against the criterion.
    """

    name: str
    holds: bool | None
    measured: str
    criterion: str
    value: float | None = None
    p: float | None = None
    n: int | None = None

    @property
    def words(self) -> str:
        return {True: "yes", False: "no", None: "open"}[self.holds]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.words}
