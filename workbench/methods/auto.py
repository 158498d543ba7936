"""Which cheap method to believe here: the one whose scores agree best with exact effects of a sample of edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.circuits.scores import Scores
from workbench.core.stats.intervals import Interval
from workbench.core.stats.sampled_agreement import agreement_over
from workbench.core.stats.strata import Stratified, stratified
from workbench.engine.distribute import Here
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.exact import edge_effects
from workbench.methods.options.auto import Auto
from workbench.methods.registry import Level

Told = tuple[float, Interval]


def common_sizes(each: Sequence[Float[np.ndarray, " edge"]]) -> Float[np.ndarray, " edge"]:
    """Return the mean size of every edge's scores, each method's divided by its largest.

    Example:
        >>> common_sizes([np.array([2.0, -4.0]), np.array([1.0, 0.0])])
        array([0.75, 0.5 ])
    """
    return np.mean([np.abs(v) / (np.abs(v).max(initial=0.0) or 1.0) for v in each], axis=0)


def auto(runs: PairedRuns, options: Auto, *, level: Level, progress: Callable[..., None]) -> Scores:
    """The scores of that cheap method which agrees best with exact effects of a sample of edges.

    One sample serves all methods: it is drawn by strata of the mean size of their scores, each edge is measured once,
    and the method with the highest linear correlation over all edges, estimated from it, is taken. The sample and the
    choice use the pairs of ``runs`` alone, so that those a circuit is judged on know nothing of it.

    Returns:
        The scores of the chosen method, in its unit; positive supports the behavior. ``options`` say which was
        ``chosen``, ``why``, and the correlations of every method.
    """
    each = {name: score(runs, name, level=level, progress=progress) for name in options.of}
    first = next(iter(each.values()))
    values = [scores.values[first.candidates] for scores in each.values()]
    sample = stratified(common_sizes(values), options.sample, seed=options.seed)
    places = [tuple(index) for index in np.argwhere(first.candidates).tolist()]
    # workers know the questions of methods that are sums over parts, not this one
    runs.division = Here(store=runs.division.store)
    exact = edge_effects(runs, first, [places[item] for item in sample.items], progress=progress)
    found = {
        name: _agreement(scores, own[sample.items], exact, sample, runs.metric.unit, options.seed)
        for (name, scores), own in zip(each.items(), values, strict=True)
    }
    chosen = max(found, key=lambda name: np.nan_to_num(found[name][0][0], nan=-2.0))
    return replace(
        each[chosen],
        method="auto",
        options={
            **asdict(options),
            "chosen": chosen,
            "why": _why(chosen, found, len(sample.items), len(places)),
            "correlations": {name: _rows(*rows) for name, rows in found.items()},
            "options of the chosen": dict(each[chosen].options),
        },
        passes=sum(scores.passes for scores in each.values()) + len(sample.items),
        own_rule="",
        per_pair=None,
    )


def _agreement(
    scores: Scores, own: np.ndarray, exact: np.ndarray, sample: Stratified, unit: str, seed: int
) -> tuple[Told, Told]:
    return agreement_over(own, exact, sample, unsigned=scores.without_sign(unit), seed=seed)


def _why(chosen: str, found: dict[str, tuple[Told, Told]], n: int, of: int) -> str:
    """A sentence with the linear correlation of every method, best first."""
    best = sorted(found, key=lambda name: -np.nan_to_num(found[name][0][0], nan=-2.0))
    told = ", ".join(f"{name} {found[name][0][0]:.3f} ({found[name][0][1].shown('.2f')})" for name in best)
    return f"{chosen} agrees best with exact effects ({n} of {of:,} edges measured): correlation of {told}"


def _rows(linear: Told, rank: Told) -> dict[str, Any]:
    """Correlations as JSON values; None where one is not defined."""

    def row(told: Told) -> dict[str, float | None]:
        named = {"value": told[0], "low": told[1].low, "high": told[1].high}
        return {k: float(x) if np.isfinite(x) else None for k, x in named.items()}

    return {"linear": row(linear), "rank": row(rank)}
