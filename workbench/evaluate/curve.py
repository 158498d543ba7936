"""Faithfulness at several sizes, beside random circuits: what a set of scores is worth, whatever is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.circuits.scores import Ranking, Scores
from workbench.circuits.selection.rules import one_rule
from workbench.circuits.verdicts.statistics import area, ratio
from workbench.core.progress import Progress
from workbench.core.run_record import measured_on
from workbench.core.show import Shown
from workbench.core.text import printable
from workbench.engine.interventions.words import Ablation
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.baselines import random_like
from workbench.evaluate.faithfulness import Faithfulness, empty_like, faithfulness_of, run_circuits
from workbench.evaluate.sample_plan import SHARES


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve(Shown, shown_in="workbench.evaluate.show"):
    """Faithfulness over circuit sizes, with random circuits of the same sizes beside it.

    Attributes:
        shares: Nominal share of all edges at each point, before pruning.
        points: The circuits' faithfulness, one per share.
        random: ``(share, draw)`` faithfulness of random circuits of about as many edges as the pruned circuit.
        random_sizes: ``(share, draw)`` how many edges each of them really has; never more.
    """

    shares: tuple[float, ...]
    points: tuple[Faithfulness, ...]
    random: np.ndarray
    method: str
    ranking: Ranking
    random_sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def values(self) -> np.ndarray:
        return np.array([p.faithfulness for p in self.points])

    @property
    def quantity(self) -> tuple[str, str, str]:
        """Metric, its unit and the ablation: curves may share an axis only where these agree."""
        point = self.points[0]
        return point.metric, point.unit, point.ablation

    def band(self) -> list[tuple[float, float, float, float]]:
        """Return ``(share, faithfulness, low, high)`` of every point: 95 % intervals by bootstrap over pairs."""
        return [
            (share, point.faithfulness, point.interval.low, point.interval.high)
            for share, point in zip(self.shares, self.points, strict=True)
        ]

    def area(self) -> dict[str, float]:
        """CPR (area under the curve) and CMD (area of its distance from 1), trapezoid, linear in the share."""
        return {"CPR": area(self.shares, self.values), "CMD": area(self.shares, np.abs(1 - self.values))}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""

        def number(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        rows = []
        for i, (share, point) in enumerate(zip(self.shares, self.points, strict=True)):
            drawn = self.random[i] if self.random.size else np.array([])
            rows.append(
                {
                    "share": share,
                    "edges": point.size,
                    "faithfulness": number(point.faithfulness),
                    "stderr": number(point.stderr),
                    "low": number(point.interval.low),
                    "high": number(point.interval.high),
                    "random_mean": number(drawn.mean()) if drawn.size else None,
                    "random_std": number(drawn.std(ddof=1)) if drawn.size > 1 else None,
                    "random_draws": int(drawn.size),
                    "random_edges": number(np.mean(self.random_sizes[i])) if self.random_sizes.size else None,
                }
            )
        area = {name: number(value) for name, value in self.area().items()}
        metric, unit, ablation = self.quantity
        what = {"method": self.method, "ranking": self.ranking, "metric": metric, "unit": unit}
        return {**what, "ablation": ablation, "points": rows, **area}

    def to_dataframe(self):
        """One row per size."""
        import pandas as pd

        return pd.DataFrame(self.to_dict()["points"])

    @property
    def title(self) -> str:
        """What is shown, for captions."""
        first = self.points[0]
        return measured_on(
            f"Faithfulness of {self.method}, n={len(first.full)}", {"standing": first.standing}
        )

    def __repr__(self) -> str:
        points = ", ".join(f"{s:.3g}: {v:.2f}" for s, v in zip(self.shares, self.values, strict=True))
        return printable(f"<Curve {self.method}: {points}>")


MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # Mueller et al. 2025


@on_a_task
def faithfulness_curve(
    scores: Scores,
    runs: PairedRuns,
    *,
    shares: Sequence[float] = SHARES,
    by: Ranking = "absolute",
    greedy: bool = False,
    select: str = "top",
    ablation: Ablation = "resample",
    random_draws: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    """Measure the faithfulness of the best share of edges at several sizes, beside random circuits of the same
    real size.

    Returns:
        One faithfulness per size, a share of the gap, and those of random circuits; CPR and CMD are areas over the
        share of edges.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> curve = wb.faithfulness_curve(wb.score(runs, "eap"), runs, shares=(0.1, 1.0), random_draws=1)
        >>> round(float(curve.values[-1]), 3)
        1.0
    """
    select = one_rule(select, greedy)
    counts = [scores.count(share) for share in shares]
    chosen = [scores.choose(n, by=by, select=select) for n in counts]
    rng = np.random.default_rng(seed)
    drawn = [random_like(scores, c.size, rng) for c in chosen for _ in range(random_draws)]
    everything = [*chosen, empty_like(chosen[0], runs), *drawn]
    values = run_circuits(runs, everything, ablation=ablation, progress=progress)
    empty = values[len(chosen)]
    points = tuple(faithfulness_of(c, runs, v, empty, ablation) for c, v in zip(chosen, values, strict=False))
    rest = values[len(chosen) + 1 :]
    random = np.array([ratio(v, runs.clean, empty) for v in rest]).reshape(len(chosen), random_draws)
    sizes = np.array([c.size for c in drawn]).reshape(len(chosen), random_draws)
    return Curve(
        random_sizes=sizes,
        shares=tuple(shares),
        points=points,
        random=random,
        method=scores.method,
        ranking=by,
    )
