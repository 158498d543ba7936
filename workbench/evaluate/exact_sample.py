"""How good the scores of a method are on this model and task: some edges measured exactly, beside their scores.

Which edges is drawn by strata of the size of their score (``workbench/core/stats/strata.py``): the largest all, of the
many small ones a few that stand for the rest. With these weights the correlations estimate those over all edges. Their
intervals say how far other draws of edges would lie apart: by bootstrap over the drawn edges within strata, and never
narrower than Fisher's interval for so many effective draws, since a bootstrap cannot see the one edge that was not
drawn and is unlike the rest. The pairs are those the scores were computed on; how other pairs differ is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.core.progress import silent
from workbench.core.show import Shown
from workbench.core.stats.intervals import RESAMPLES, Interval
from workbench.core.stats.sampled_agreement import agreement_over
from workbench.core.stats.strata import stratified
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.sample_plan import SAMPLE
from workbench.methods.exact import edge_effects

LOW = 0.7  # a correlation below this leaves more than half of the variance of the exact effects unexplained
LOW_RANK = 0.3  # most edges do nothing, so that their ranks are noise also of good scores


@dataclass(frozen=True, kw_only=True)
class SampledEdge:
    """An edge that was measured: its score, its exact effect, and how many edges it stands for."""

    edge: str
    score: float
    exact: float
    weight: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactSample(Shown, shown_in="workbench.evaluate.show"):
    """Scores beside exact effects of the same edges, and how far the two agree over all edges.

    Attributes:
        linear: Pearson's correlation over all edges, estimated from those that were measured.
        rank: Spearman's, likewise.
        linear_interval, rank_interval: 95 %, over draws of edges; both ends are the value where all were measured.
        of: How many edges there are.
        unsigned: The scores are sizes, masks or shares: they are compared with the size of the exact effect.

    Example:
        >>> said = {"method": "eap", "metric": "logit-difference", "unit": "logits", "ablation": "resample"}
        >>> one, all_of_them = SampledEdge(edge="input->m0", score=1.0, exact=1.25, weight=1.0), Interval(1.0, 1.0, 0.0)
        >>> how = {"linear_interval": all_of_them, "rank_interval": all_of_them, "n_pairs": 4, "seed": 0, **said}
        >>> found = ExactSample(edges=(one,), linear=1.0, rank=1.0, of=1, **how)
        >>> found.edges[0].exact, found.linear_interval.shown()
        (1.25, '1.000 to 1.000')
    """

    edges: tuple[SampledEdge, ...]
    linear: float
    linear_interval: Interval
    rank: float
    rank_interval: Interval
    of: int
    method: str
    metric: str
    unit: str
    ablation: str
    n_pairs: int
    seed: int
    unsigned: bool = False
    drawn: tuple[tuple[int, int], ...] = field(default=())

    @property
    def sentence(self) -> str:
        """Say what was measured and how far it agrees."""
        n, of = len(self.edges), self.of
        what = "the sizes of exact effects" if self.unsigned else "exact effects"
        how = f"all {of:,} edges, each" if n == of else f"{n} of {of:,} edges"
        linear = _told(self.linear, self.linear_interval, n == of)
        rank = _told(self.rank, self.rank_interval, n == of)
        return f"scores and {what} ({how} measured on {self.n_pairs} pairs): correlation {linear}, of ranks {rank}"

    @property
    def warning(self) -> str:
        """Say that the scores are a poor estimate here, or may be; empty where they are not."""
        if not np.isfinite(self.linear):
            return (
                f"whether {self.method} estimates exact effects here is not known: the edges that were measured all "
                "have one score or one effect"
            )
        low = [("correlation", self.linear, LOW), ("correlation of ranks", self.rank, LOW_RANK)]
        found = [f"{name} {value:.2f}, below {line:g}" for name, value, line in low if value < line]
        if not found:
            return ""
        return (
            f"{self.method} is a poor estimate of exact effects here ({'; '.join(found)}): try another method, or "
            "judge edges by --method exact"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "linear": _values(self.linear, self.linear_interval),
            "rank": _values(self.rank, self.rank_interval),
            "against": "size of the exact effect" if self.unsigned else "exact effect",
            "n": len(self.edges),
            "of": self.of,
            "n_pairs": self.n_pairs,
            "ablation": self.ablation,
            "unit": self.unit,
            "seed": self.seed,
            "strata": [{"edges": count, "measured": drawn} for count, drawn in self.drawn],
            "warning": self.warning,
            "edges": [vars(edge) for edge in self.edges],
        }

    def __repr__(self) -> str:
        agrees = f"linear {self.linear:.3f}, rank {self.rank:.3f}"
        return f"<ExactSample {self.method}: {len(self.edges)} of {self.of} edges, {agrees}>"


def compare_with_exact(
    runs: PairedRuns,
    scores: Scores,
    n: int = SAMPLE,
    *,
    seed: int = 0,
    draws: int = RESAMPLES,
    progress: Callable[[int, int, str], None] | None = None,
) -> ExactSample:
    """Measure ``n`` edges exactly, drawn by strata of the size of their score, and say how far the scores agree.

    Each edge takes one pass from its reader's layer on, many in one pass. What the scores put in place of the clean
    value (``ablation``) the exact effects do too.

    Args:
        runs: The pairs that the scores were computed on.
        seed: Of the draw and of the resamples.

    Returns:
        Scores and effects in the metric's unit, positive supports the behavior; correlations from -1 to 1.

    Raises:
        OptionError: for scores of nodes or neurons, of other pairs or another metric, and for fewer than four edges.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> found = wb.compare_with_exact(runs, wb.score(runs, "eap"), 20)
        >>> len(found.edges), found.of, found.linear > 0.5
        (20, 479, True)
    """
    _refuse_other(runs, scores)
    indices = [tuple(index) for index in np.argwhere(scores.candidates).tolist()]
    values = np.array([scores.values[index] for index in indices])
    sample = stratified(values, n, seed=seed)
    chosen = [indices[item] for item in sample.items]
    ablation: Ablation = scores.options.get("ablation", "resample")
    effects = edge_effects(runs, scores, chosen, ablation=ablation, progress=progress or silent)
    unsigned = scores.without_sign(runs.metric.unit)
    linear, rank = agreement_over(
        values[sample.items], effects, sample, unsigned=unsigned, draws=draws, seed=seed
    )
    told = zip(chosen, effects.tolist(), sample.weights.tolist(), strict=True)
    edges = (
        SampledEdge(edge=scores.address(i), score=float(scores.values[i]), exact=effect, weight=weight)
        for i, effect, weight in told
    )
    return ExactSample(
        edges=tuple(edges),
        linear=linear[0],
        linear_interval=linear[1],
        rank=rank[0],
        rank_interval=rank[1],
        of=len(indices),
        method=scores.method,
        metric=scores.metric,
        unit=runs.metric.unit,
        ablation=str(ablation),
        n_pairs=runs.n_pairs,
        seed=seed,
        unsigned=unsigned,
        drawn=tuple(zip(sample.counts.tolist(), sample.drawn.tolist(), strict=True)),
    )


def _refuse_other(runs: PairedRuns, scores: Scores) -> None:
    """Scores of something else than these runs.

    Raises:
        OptionError: in what they differ.
    """
    if scores.level != "edge":
        raise OptionError(
            f"an exact sample is one of edges; these are scores of {scores.level}s", hint='level="edge"'
        )
    was, now = scores.provenance.get("pairs"), runs.provenance().get("pairs")
    if scores.metric != runs.metric.name or was != now:
        raise OptionError(
            f"the scores are of {scores.metric} on other pairs or by another metric than {runs.metric.name} on these",
            hint="give the runs that the scores were computed on",
        )


def _told(value: float, interval: Interval, whole: bool) -> str:
    return f"{value:.2f}" if whole else f"{value:.2f} ({interval.shown('.2f')})"


def _values(value: float, interval: Interval) -> dict[str, float | None]:
    named = {"value": value, "low": interval.low, "high": interval.high}
    return {name: float(x) if np.isfinite(x) else None for name, x in named.items()}
