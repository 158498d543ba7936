"""What a prediction loses when heads are pruned: four measures of each picture (or prompt), for any classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from workbench.core.errors import ModelError, ShapeError
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class Predictions(NamedTuple):
    """What a model says of each item.

    Attributes:
        probabilities: Of the classes; rows sum to 1.
        summary: What the first position holds after the last layer: a class token's representation.
    """

    probabilities: Float[np.ndarray, "item answer"]
    summary: Float[np.ndarray, "item d_model"]


class PruneMetrics(NamedTuple):
    """What pruning changed, one value per item; above 0: the pruned part mattered.

    Attributes:
        accuracy: 1 where the right answer was lost, -1 where it was won, else 0.
        probability: How much probability the right class lost.
        divergence: Jensen-Shannon divergence of the two distributions, in nats, 0 to ln 2; no class is preferred.
        representation: 1 minus the cosine of the class token's representation before and after, 0 to 2.
    """

    accuracy: Float[np.ndarray, " item"]
    probability: Float[np.ndarray, " item"]
    divergence: Float[np.ndarray, " item"]
    representation: Float[np.ndarray, " item"]


@torch.no_grad()
def predictions(model: TransformerBridge, prompt: Prompt, *, rows: int = 128) -> Predictions:
    """Say what the model says of each row.

    Args:
        rows: At most so many in one pass.

    Raises:
        ModelError: if the model answers at more than one position: it is no classifier.
    """
    last = f"blocks.{model.cfg.n_layers - 1}.hook_out"
    said, held = [], []
    for part in prompt.split(rows):
        out, seen = record(model, part, [last])
        if out.shape[1] != 1:
            raise ModelError(
                f"the model answers at {out.shape[1]} positions; a classifier answers once",
                hint="-m zoo:marked",
            )
        said.append(out[:, 0].double().softmax(-1))
        held.append(seen[last][:, 0].double())
    return Predictions(torch.cat(said).cpu().numpy(), torch.cat(held).cpu().numpy())


def prune_metrics(full: Predictions, pruned: Predictions, right: Int[np.ndarray, " item"]) -> PruneMetrics:
    """Compare what a model says of each item with what it says once a part of it is pruned.

    Args:
        right: The right class of each item.

    Raises:
        ShapeError: if the two are not of the same items.

    Source:
        Li et al. 2023, How Does Attention Work in Vision Transformers? A Visual Analytics Attempt.

    Example:
        >>> sure, lost = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
        >>> there, away = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
        >>> found = prune_metrics(Predictions(sure, there), Predictions(lost, away), np.array([0]))
        >>> [round(float(each[0]), 3) for each in found]  # ln 2 = 0.693
        [1.0, 1.0, 0.693, 1.0]
    """
    if full.probabilities.shape != pruned.probabilities.shape or len(right) != len(full.probabilities):
        raise ShapeError(
            f"{full.probabilities.shape} and {pruned.probabilities.shape} (item, class) with {len(right)} right "
            "classes are compared item by item",
            hint="give both predictions and the right class of the same items, in one order",
        )
    p, q, at = full.probabilities, pruned.probabilities, np.arange(len(right))
    was, is_ = (made.argmax(-1) == right for made in (p, q))
    return PruneMetrics(
        accuracy=was.astype(float) - is_,
        probability=p[at, right] - q[at, right],
        divergence=jensen_shannon(p, q),
        representation=1 - _cosine(full.summary, pruned.summary),
    )


def jensen_shannon(
    p: Float[np.ndarray, "item answer"], q: Float[np.ndarray, "item answer"]
) -> Float[np.ndarray, " item"]:
    """Jensen-Shannon divergence of two distributions, in nats: 0 for the same, ln 2 where they share nothing.

    Source:
        Lin 1991, IEEE Transactions on Information Theory 37.
    """
    middle = (p + q) / 2

    def to_middle(one: np.ndarray) -> np.ndarray:
        ratio = np.divide(one, middle, out=np.ones_like(one), where=one > 0)
        return (one * np.log(ratio)).sum(-1)

    return np.maximum((to_middle(p) + to_middle(q)) / 2, 0.0)  # rounding may go a hair below 0


def _cosine(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    same = (here == there).all(-1)  # exactly 1, which rounding would miss
    size = np.linalg.norm(here, axis=-1) * np.linalg.norm(there, axis=-1)
    return np.where(same, 1.0, (here * there).sum(-1) / np.where(size > 0, size, 1.0))


def every_head(model: TransformerBridge) -> list[str]:
    """Return the addresses of all heads, layer by layer."""
    wired = wiring(model)
    return [f"a{layer}.h{head}" for layer in wired.attention_layers for head in range(wired.n_heads)]


def others_of_layer(head: str, heads: Sequence[str]) -> list[str]:
    """Return all other heads of a head's layer: pruned together they leave it alone there.

    Example:
        >>> others_of_layer("a0.h1", ["a0.h0", "a0.h1", "a0.h2", "a1.h0"])
        ['a0.h0', 'a0.h2']
    """
    layer = head.partition(".")[0]
    return [other for other in heads if other.partition(".")[0] == layer and other != head]
