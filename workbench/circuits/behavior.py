"""What the model itself does on some pairs, before anything is done to it: does it show the behavior at all?

Effects, circuits and faithfulness are shares of the gap between the clean and the corrupted run. Where that gap is
noise, so are they; every result therefore begins with this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from workbench.core.stats.binomial import share_interval
from workbench.core.stats.dependent_pairs import Clusters, cluster_index
from workbench.core.stats.intervals import beyond_rounding
from workbench.core.stats.sign_flips import sign_flips
from workbench.core.stats.student import clustered_interval

LEAST = 4  # independent pairs below which nothing is said
ENOUGH = (
    24  # independent pairs from which a gap that is not shown counts as none; see docs/methods.md, Behavior
)
ALPHA = 0.05
Finding = Literal["yes", "noise", "as guessing", "wrong", "opposite", "open"]
SHORT: Mapping[str, str] = {
    "yes": "yes",
    "noise": "no: gap within noise",
    "as guessing": "no: answers as guessing does",
    "wrong": "no: answers wrongly",
    "opposite": "no: does the opposite",
    "open": "open: too few pairs",
}
_SENTENCES: Mapping[Finding, str] = {
    "yes": "the model does this task ({numbers})",
    "noise": "the model does not do this task ({numbers}): {what} are noise",
    "as guessing": "the model does not do this task ({numbers}; guessing gives {guess}): {what} tell what moves the "
    "metric, not what does the task",
    "wrong": "the model answers this task wrongly ({numbers}; guessing gives {guess}): {what} are of wrong answers",
    "opposite": "the model does the opposite of this task ({numbers}): the corrupted prompts show more of the behavior "
    "than the clean ones, and {what} are of that",
    "open": "whether the model does this task is open ({numbers}): too few independent pairs to tell, {what} may be "
    "noise",
}


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over pairs with its 95 % interval; NaN where there are too few for one."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def to_dict(self) -> dict[str, float | None]:
        """Return it as JSON values."""
        values = {"mean": self.value, "low": self.low, "high": self.high}
        return {name: float(x) if isfinite(x) else None for name, x in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, float | None]) -> Mean:
        """Read what ``to_dict`` wrote."""
        found = (data[k] for k in ("mean", "low", "high"))
        value, low, high = (float("nan") if x is None else x for x in found)
        return cls(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """The metric of the clean and of the corrupted run, and how many pairs are answered rightly.

    Attributes:
        n: Pairs.
        clusters: How many of them are independent: pairs of one group or prompt in a file count once.
        clean, corrupted: Metric of both runs, in its unit.
        gap: Clean minus corrupted, times the metric's direction: positive is more of the behavior in the clean run.
        gap_p: Chance of such a gap where there is none, by sign flips of independent pairs.
        right: Share of clean prompts whose best correct answer has a higher logit than every incorrect one, whatever
            the metric; None for a model without answers. A pair without incorrect answers is held against all others.
        guess: The share that guessing among the answers would give.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> runs.behavior.n, runs.behavior.metric, runs.behavior.finding  # four pairs decide nothing
        (4, 'logit-difference', 'open')
    """

    metric: str
    unit: str
    n: int
    clusters: int
    clean: Mean
    corrupted: Mean
    gap: Mean
    gap_p: float
    right: Mean | None
    guess: float

    @classmethod
    def of(
        cls,
        clean: np.ndarray,
        corrupted: np.ndarray,
        *,
        metric: str,
        unit: str,
        direction: int,
        right: np.ndarray | None = None,
        guess: float = 0.0,
        clusters: Clusters = (),
    ) -> Behavior:
        """From one value per pair of both runs.

        Args:
            right: 1 where the clean prompt is answered rightly, else 0.
            clusters: A name per pair, equal for pairs that are not independent; by default all are.
        """
        clean, corrupted = np.asarray(clean, dtype=float), np.asarray(corrupted, dtype=float)
        gap = direction * (clean - corrupted)
        index = cluster_index(clusters, len(gap))
        return cls(
            metric=metric,
            unit=unit,
            n=len(gap),
            clusters=int(index.max()) + 1 if len(index) else 0,
            clean=_mean(clean, index),
            corrupted=_mean(corrupted, index),
            gap=_mean(gap, index),
            gap_p=float(sign_flips(beyond_rounding(gap[None], clean, corrupted), index).p[0]),
            right=None if right is None else _share(np.asarray(right, dtype=float), index),
            guess=guess,
        )

    @property
    def finding(self) -> Finding:
        """Whether the model does the task, and if not, why not.

        It does where the gap is clear (sign flips, p below 0.05) and positive and more pairs are answered rightly than
        by guessing (the interval excludes that). With fewer than 24 independent pairs, what is not shown is open as
        long as gap and answers point the right way; with fewer than 4 everything is.
        """
        if self.clusters < LEAST:
            return "open"
        clear = self.gap_p < ALPHA
        if clear and self.gap.value < 0:
            return "opposite"
        if self.right is not None and self.right.high < self.guess:
            return "wrong"
        knows = self.right is None or self.right.low > self.guess
        if clear and knows:
            return "yes"
        hopeful = self.gap.value > 0 and (self.right is None or self.right.value > self.guess)
        if self.clusters < ENOUGH and hopeful:
            return "open"
        return "as guessing" if clear else "noise"

    @property
    def does_task(self) -> bool | None:
        """True, False, or None where the pairs are too few to tell."""
        return {"yes": True, "open": None}.get(self.finding, False)

    @property
    def short(self) -> str:
        """A few words for a column of a list."""
        return SHORT[self.finding]

    def sentence(self, what: str = "effects below") -> str:
        """Return one sentence to begin a result with: what the model does, and what that means for what follows."""
        return _SENTENCES[self.finding].format(numbers=self.numbers(), what=what, guess=f"{self.guess:.0%}")

    def numbers(self) -> str:
        """Gap, both runs and answers in words, with 95 % intervals."""
        parts = [
            f"gap {_plus_minus(self.gap)} {self.unit}: {self.metric} clean {_plus_minus(self.clean)}, "
            f"corrupted {_plus_minus(self.corrupted)}"
        ]
        if self.right is not None:
            parts.append(f"{round(self.right.value * self.n)} of {self.n} pairs answered rightly")
        grouped = f", {self.clusters} independent" if self.clusters < self.n else ""
        return ", ".join([*parts, f"n {self.n}{grouped}"])

    def to_dict(self, what: str = "effects below") -> dict[str, Any]:
        """Return numbers and what follows from them, as JSON values; ``what`` as in ``sentence``."""
        return {
            "finding": self.finding,
            "does_task": self.does_task,
            "sentence": self.sentence(what),
            "metric": self.metric,
            "unit": self.unit,
            "n": self.n,
            "clusters": self.clusters,
            "clean": self.clean.to_dict(),
            "corrupted": self.corrupted.to_dict(),
            "gap": self.gap.to_dict(),
            "gap_p": self.gap_p,
            "right": None if self.right is None else self.right.to_dict(),
            "guess": self.guess,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Behavior:
        """Read what ``to_dict`` wrote; what follows from the numbers is computed again."""
        clean, corrupted, gap = (Mean.from_dict(data[name]) for name in ("clean", "corrupted", "gap"))
        right = None if data["right"] is None else Mean.from_dict(data["right"])
        plain = {name: data[name] for name in ("metric", "unit", "n", "clusters", "gap_p", "guess")}
        return cls(clean=clean, corrupted=corrupted, gap=gap, right=right, **plain)

    def __repr__(self) -> str:
        return f"<Behavior {self.short}: {self.numbers()}>"


def _mean(values: np.ndarray, index: np.ndarray) -> Mean:
    low, high, _ = clustered_interval(values, index)
    return Mean(value=float(np.mean(values)) if len(values) else float("nan"), low=low, high=high)


def _share(right: np.ndarray, index: np.ndarray) -> Mean:
    """The share of ones: exactly where every pair is independent, or all came out alike; else by the clusters."""
    n, groups = len(right), int(index.max()) + 1 if len(right) else 0
    count = round(float(right.sum()))
    if n == 0:
        return Mean(value=float("nan"), low=float("nan"), high=float("nan"))
    if groups == n or count in (0, n):
        low, high = share_interval(groups if count == n else count, groups)
    else:
        low, high, _ = clustered_interval(right, index)
    return Mean(value=count / n, low=max(0.0, low), high=min(1.0, high))


def _plus_minus(mean: Mean) -> str:
    """A mean with half its interval; digits as the interval needs them."""
    if not isfinite(mean.half):
        return f"{mean.value:.3g}"
    if mean.half == 0:
        return f"{mean.value:.3g} ± 0"
    digits = max(0, 1 - int(np.floor(np.log10(mean.half))))
    if digits > 6 and abs(mean.value) < 1e-4:  # 0.000000 ± 0.000000 would say nothing
        return f"{mean.value:.2e} ± {mean.half:.1e}"
    return f"{mean.value:.{min(12, digits)}f} ± {mean.half:.{min(12, digits)}f}"


def short_of(findings: Iterable[str]) -> str:
    """Return a few words for several findings together: the first that is a no, else that is open; empty for none.

    Example:
        >>> short_of(["yes", "noise"]), short_of(["yes", "open"]), short_of([])
        ('no: gap within noise', 'open: too few pairs', '')
    """
    found = [finding for finding in findings if finding in SHORT]
    worst = sorted(found, key=lambda finding: {"yes": 2, "open": 1}.get(finding, 0))
    return SHORT[worst[0]] if worst else ""
