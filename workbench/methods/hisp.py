"""Head importance score for pruning (HISP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import HISP, ONE_GRADIENT
from workbench.methods.points import ends
from workbench.methods.registry import Level


def hisp(
    runs: PairedRuns,
    options: HISP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Head importance: the size of difference times gradient on each pair, averaged; it has no sign.

    ``score(n) = mean over pairs of |sum over positions and dimensions of (clean - corrupted) * d metric / d n|``

    Source:
        Michel, Levy and Neubig 2019, arXiv:1905.10650, in the form of Conmy et al. 2023, arXiv:2304.14997.
    """
    found = gradient_scores(
        runs,
        Recipe(points=lambda graph: ends("clean"), ablation=options.ablation, absolute=True),
        level=level,
        method="hisp",
        source="arXiv:1905.10650",
        options=asdict(options),
        passes=ONE_GRADIENT.passes,
        per_position=per_position,
        progress=progress,
        unit=f"|{runs.metric.unit}|",
    )
    if options.normalise == "none":
        return found
    values = _by_layer(found)
    return replace(found, values=values, per_pair=None, unit="share of the layer's 2-norm")


def _by_layer(found: Scores) -> np.ndarray:
    """Scores divided by the 2-norm of those of their layer; the input is a layer of its own."""
    if found.level == "neuron":
        groups: list[tuple[Any, ...]] = [np.s_[..., n, :] for n in range(found.graph.shape.n_layers)]
    else:
        layers = np.array([-1 if node.layer is None else node.layer for node in found.graph.sources])
        groups = [(..., layers == n) for n in sorted(set(layers.tolist()))]
    values = found.values.copy()
    for group in groups:
        size = np.sqrt(np.square(values[group]).sum(-1, keepdims=True))
        values[group] = np.divide(values[group], size, out=np.zeros_like(values[group]), where=size > 0)
    return values
