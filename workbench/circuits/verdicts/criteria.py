"""What a verdict is, and the lines that verdicts are drawn by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from workbench.core.errors import expect_word
from workbench.core.stats.multiplicity import CORRECTIONS

# 2: no verdict rests on an interval of too few pairs; nodes are tested together
# 3: equivalence and independence are tested with one score for each independent group of pairs
RULES = 3
# What files say nothing of that were written before there were rules 2.
_FIRST: Mapping[str, Any] = {"rules": 1, "least_pairs": 2, "node_correction": "none"}


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
        least_pairs: Independent pairs from which a verdict may rest on an interval. From 24 on, the 95 % interval of a
            faithfulness held the truth in 90 to 95 % of draws of seven kinds of pairs; with 4 pairs in 78 to 87 %, with
            2 in 49 to 57 % (``benchmarks/coverage.py``).
        node_correction: How the tests of all nodes are corrected: ``max-T`` over sign flips of independent pairs, or
            ``none`` (rules 1: each interval by itself).
        flips: Sign flips where there are too many to go through all.
        rules: Which rules decide; see ``docs/methods.md``, Verdicts.

    Example:
        >>> import workbench as wb
        >>> wb.Criteria().alpha
        0.05
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
    least_pairs: int = 24
    node_correction: Literal["max-T", "none"] = "max-T"
    flips: int = 9999
    rules: int = RULES

    def __post_init__(self) -> None:
        expect_word("correction", self.correction, CORRECTIONS)
        expect_word("correction of nodes", self.node_correction, ("max-T", "none"))

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Criteria:
        """Return the criteria of a file; those that an old file says nothing of are as they were then."""
        return cls(**{**({} if "rules" in saved else _FIRST), **saved})

    @property
    def today(self) -> Criteria:
        """The same lines by the rules of today."""
        if self.rules == RULES:
            return self
        if self.rules > 1:
            return replace(self, rules=RULES)
        new = Criteria()
        return replace(
            self,
            rules=RULES,
            least_pairs=new.least_pairs,
            node_correction=new.node_correction,
            flips=new.flips,
        )


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
        """Return it as JSON values."""
        return {**asdict(self), "verdict": self.words}
