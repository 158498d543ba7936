"""Scores of EAP-IG beside what they sum to: the edges that leave the input share out the gap between both runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.circuits.scores import Scores

FAR = 0.25  # of the gap: 0.42 at five steps and 0.08 at twenty on zoo:vlm, scene-exist; 0.01 on zoo:ioi
METHOD = "eap-ig"


@dataclass(frozen=True, kw_only=True)
class SummedScores:
    """What the scores of the edges that leave the input sum to, and what they sum to with enough points of the path.

    Attributes:
        total: The sum, in the metric's unit; positive supports the behavior.
        gap: The metric's mean in the clean run minus that in the corrupted run.
        steps: Points of the path.
    """

    total: float
    gap: float
    steps: int
    unit: str

    @property
    def off(self) -> float:
        """How far the sum is from the gap, as a share of the gap; infinite where there is no gap."""
        return abs(self.total - self.gap) / abs(self.gap) if self.gap else float("inf")

    @property
    def sentence(self) -> str:
        """The sum beside the gap."""
        return (
            f"scores of the edges that leave the input sum to {self.total:.3g} {self.unit}; the gap between the clean "
            f"and the corrupted run is {self.gap:.3g}"
        )

    @property
    def warning(self) -> str:
        """Say that the sum is far from the gap, and what to type; empty where it is near."""
        if self.off <= FAR:
            return ""
        return (
            f"{self.sentence}, so that {self.steps} points are too few for sizes of scores (their order may be right)\n"
            f"  hint: --option steps={4 * self.steps}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "sum": self.total,
            "gap": self.gap,
            "steps": self.steps,
            "unit": self.unit,
            "warning": self.warning,
        }


def summed_scores(scores: Scores, gap: float) -> SummedScores | None:
    """Sum what EAP-IG gives the edges that leave the input, of a tower too; None for scores that need not sum to a gap.

    Args:
        gap: The metric's mean in the clean run minus that in the corrupted run.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> summed = summed_scores(wb.score(runs, "eap-ig"), float((runs.clean - runs.corrupted).mean()))
        >>> summed.off < 0.05, summed.warning
        (True, '')
    """
    options = dict(scores.options)
    plain = options.get("backward", "plain") == "plain"
    if scores.method != METHOD or scores.level != "edge" or scores.positions or not plain:
        return None
    rows = [i for i, source in enumerate(scores.graph.sources) if source.kind in ("input", "embed")]
    return SummedScores(
        total=float(np.nansum(scores.values[rows])),
        gap=gap,
        steps=int(options.get("steps", 5)),
        unit=scores.unit,
    )
