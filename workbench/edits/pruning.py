"""What a classifier of pictures loses without heads: each by itself, and sets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

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
