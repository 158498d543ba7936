"""Ensembles: scores of several methods on one scale, combined edge by edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.options.combinations import Ensemble
from workbench.methods.registry import Level

UNITS = {"sum": "share of all scores", "rank": "rank", "none": "mixed"}


def scaled(values: Float[np.ndarray, " edge"], scale: str) -> Float[np.ndarray, " edge"]:
    """Return scores on a scale of their own: shares of the sum of sizes, signed ranks from 0 to 1, or as they are.

    Example:
        >>> scaled(np.array([3.0, -1.0, 0.0]), "sum"), scaled(np.array([3.0, -1.0, 0.0]), "rank")
        (array([ 0.75, -0.25,  0.  ]), array([ 1. , -0.5,  0. ]))
    """
    if scale == "none":
        return values
    if scale == "rank":
        return np.sign(values) * (rankdata(np.abs(values)) - 1) / max(1, len(values) - 1)
    whole = np.abs(values).sum()
    return values / whole if whole > 0 else values


def combined(
    scores: Float[np.ndarray, "method edge"], combine: str, weights: Sequence[float] = ()
) -> Float[np.ndarray, " edge"]:
    """Return the mean of the methods for each edge, or the score of largest or smallest size.

    Example:
        >>> combined(np.array([[1.0, -4.0], [3.0, 2.0]]), "max"), combined(np.array([[1.0, -4.0], [3.0, 2.0]]), "min")
        (array([ 3., -4.]), array([1., 2.]))
    """
    if combine in ("mean", "weighted"):
        return np.average(scores, axis=0, weights=list(weights) or None)
    sizes = np.abs(scores)
    row = sizes.argmax(0) if combine == "max" else sizes.argmin(0)
    return scores[row, np.arange(scores.shape[1])]


def ensemble(runs: PairedRuns, options: Ensemble, *, level: Level, progress: Callable[..., None]) -> Scores:
    """Scores of several methods on one scale, combined edge by edge (parallel ensemble).

    The published ensembles treat scales as comparable (``scale=none``). Methods that divide by something else are not:
    so each is divided by the sum of its sizes unless asked otherwise.

    Returns:
        Scores on the scale asked for; positive supports the behavior.

    Raises:
        OptionError: for methods of which some give sizes and others scores with a sign.

    Source:
        arXiv:2510.06811.
    """
    each = [score(runs, name, level=level, progress=progress) for name in options.of]
    of_one_kind(each, runs.metric.unit)
    rows = np.stack([scaled(found.values[found.candidates], options.scale) for found in each])
    return from_each(
        each, combined(rows, options.combine, options.weights), "ensemble", asdict(options), options.scale
    )


def of_one_kind(each: Sequence[Scores], unit: str) -> None:
    """Refuse sizes beside scores that have a sign: their mean is neither.

    Raises:
        OptionError: naming one of each.
    """
    sizes = [found.method for found in each if found.without_sign(unit)]
    signed = [found.method for found in each if found.method not in sizes]
    if sizes and signed:
        raise OptionError(
            f"scores of {sizes[0]} are sizes, those of {signed[0]} have a sign; combined they would be neither",
            hint="--option of=eap,eap-ig, or methods that all have none; hybrid-ensemble gives masks a sign",
        )


def from_each(
    each: Sequence[Scores], values: Float[np.ndarray, " edge"], method: str, options: dict, scale: str
) -> Scores:
    """Return scores of this method with what is known of those that it is made of."""
    first = each[0]
    whole = np.full(first.values.shape, np.nan)
    whole[first.candidates] = values
    same = scale == "none" and len({found.unit for found in each}) == 1
    return replace(
        first,
        values=whole,
        method=method,
        source="arXiv:2510.06811",
        options={**options, "options of each": {found.method: dict(found.options) for found in each}},
        unit=first.unit if same else UNITS[scale],
        passes=sum(found.passes for found in each),
        own_rule="",
        per_pair=None,
    )
