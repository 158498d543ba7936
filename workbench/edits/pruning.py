"""What a classifier of pictures loses without heads: each by itself, and sets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from workbench.core.stats.agreement import spearman
from workbench.edits.off import turn_off
from workbench.heads.prune_metrics import every_head, others_of_layer, predictions, prune_metrics
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

METRICS = {
    "accuracy": "right answers lost",
    "probability": "probability of the right class lost",
    "divergence": "Jensen-Shannon divergence, nats",
    "representation": "1 - cosine of the class token",
}
Losses = dict[str, Float[np.ndarray, " picture"]]
"""By measure, what every picture loses."""


class Pruning:
    """A classifier and pictures, on which heads are pruned: their output is zero.

    Args:
        right: The class of every picture.
    """

    def __init__(self, model: TransformerBridge, prompt: Prompt, right: Int[np.ndarray, " picture"]) -> None:
        self.model, self.prompt, self.right = model, prompt, right
        self.full = predictions(model, prompt)
        self.heads = every_head(model)

    @property
    def answers(self) -> Float[np.ndarray, " picture"]:
        """1 for every picture that the whole model names rightly."""
        return (self.full.probabilities.argmax(-1) == self.right).astype(float)

    def lost(self, pruned: Sequence[str]) -> Losses:
        """Return what is lost without these heads, by measure; above 0: they mattered."""
        with turn_off(self.model, pruned, mode="zero").on(self.model):
            said = predictions(self.model, self.prompt)
        return dict(zip(METRICS, prune_metrics(self.full, said, self.right), strict=True))

    def answers_without(self, pruned: Sequence[str]) -> Float[np.ndarray, " picture"]:
        """Return 1 for every picture that is named rightly without these heads."""
        return self.answers - self.lost(pruned)["accuracy"]

    def alone_in_layer(self, head: str) -> Float[np.ndarray, " picture"]:
        """Return the divergence where a head is all that is left of its layer, in nats."""
        return self.lost(others_of_layer(head, self.heads))["divergence"]


def mean_loss(
    losses: Mapping[str, Losses], heads: Sequence[str], measure: str = "divergence"
) -> Float[np.ndarray, " picture"]:
    """Return what heads lose that are pruned one by one, mean over them.

    Example:
        >>> losses = {"a0.h0": {"divergence": np.array([1.0])}, "a0.h1": {"divergence": np.array([0.0])}}
        >>> mean_loss(losses, ["a0.h0", "a0.h1"]).tolist()
        [0.5]
    """
    return np.asarray(np.mean([losses[head][measure] for head in heads], axis=0))


def on_pictures(losses: Mapping[str, Losses], pictures: slice) -> dict[str, Losses]:
    """Return what heads lose on some of the pictures, such as those that no head was chosen on.

    Example:
        >>> losses = {"a0.h0": {"divergence": np.array([1.0, 3.0])}}
        >>> on_pictures(losses, slice(1, None))["a0.h0"]["divergence"].tolist()
        [3.0]
    """
    return {head: {name: lost[pictures] for name, lost in found.items()} for head, found in losses.items()}


def most_missed(losses: Mapping[str, Losses], share: float, measure: str = "divergence") -> list[str]:
    """Return the share of the heads without which most is lost on average, at least one, the first the most.

    Example:
        >>> losses = {f"a0.h{i}": {"divergence": np.array([i, 0.0])} for i in range(4)}
        >>> most_missed(losses, 0.5)
        ['a0.h3', 'a0.h2']
    """
    mean = {head: found[measure].mean() for head, found in losses.items()}
    return sorted(mean, key=lambda head: -mean[head])[: max(1, ceil(share * len(mean)))]


def mean_by_measure(losses: Mapping[str, Losses]) -> dict[str, list[float]]:
    """Return by measure what is lost without each head, mean over the pictures; heads in their order.

    Example:
        >>> losses = {"a0.h0": {name: np.array([1.0, 2.0]) for name in METRICS}}
        >>> mean_by_measure(losses)["accuracy"]
        [1.5]
    """
    return {name: [float(found[name].mean()) for found in losses.values()] for name in METRICS}


def agreement(losses: Mapping[str, Sequence[float]], measure: str = "divergence") -> float:
    """Say how alike one measure and the others order the heads: mean of its rank correlations with them.

    Args:
        losses: By measure, what is lost without each head.

    Returns:
        From -1 to 1; 1 where all order the heads alike.

    Example:
        >>> agreement({"divergence": [1.0, 2.0, 3.0], "accuracy": [0.1, 0.2, 0.4], "probability": [0.0, 0.1, 0.2]})
        1.0
    """
    own = np.array(losses[measure])
    return float(np.mean([spearman(own, np.array(x)) for name, x in losses.items() if name != measure]))
