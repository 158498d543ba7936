"""How much relevance arrives at each layer of a model: is it the metric, as conservation says?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.engine.gradients import taped_run
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.rules import Backward
from workbench.model.hooks import hook_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Conservation:
    """Relevance of the residual stream that enters each layer, summed over tokens and dimensions.

    Attributes:
        relevance: In the metric's unit.
        metric: Of the clean run.
    """

    relevance: Float[np.ndarray, "pair layer"]
    metric: Float[np.ndarray, " pair"]

    @property
    def deviation(self) -> Float[np.ndarray, " layer"]:
        """Root mean squared difference from the metric at each layer, over the metric's root mean square."""
        off = self.relevance - self.metric[:, None]
        return np.sqrt((off**2).mean(0)) / np.sqrt((self.metric**2).mean())

    @property
    def worst(self) -> float:
        return float(self.deviation.max())


def conservation(runs: PairedRuns, *, backward: Backward) -> Conservation:
    """Activation times gradient of a backward rule at the entry of every layer.

    Without biases, with a constant pattern (CP-LRP), every layer has the whole metric. Biases keep a part for
    themselves; through a softmax relevance is not conserved.
    """
    hooks = [hook_name("resid", layer) for layer in range(runs.wiring.n_layers)]
    found = np.zeros((runs.n_pairs, len(hooks)))
    for batch in runs.batches:
        run = taped_run(runs, batch, hooks, backward=backward)
        for layer, (name, gradient) in enumerate((name, run.gradients(again=True)[name]) for name in hooks):
            found[batch.index, layer] = (
                (run.seen[name].detach().double() * gradient.double()).sum((1, 2)).cpu().numpy()
            )
        runs.release(batch)
    return Conservation(relevance=found, metric=runs.metric.direction * runs.clean)
