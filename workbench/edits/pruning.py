"""What a classifier of pictures loses without heads: each by itself, and sets of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from workbench.core.stats.agreement import spearman
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.edits.off import turn_off
from workbench.heads.drawn_pictures import DrawnPictures, classes_of
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

    @classmethod
    def of_drawn(cls, model: TransformerBridge, drawn: DrawnPictures) -> Pruning:
        """Prune on drawn pictures, whose objects the model is to name."""
        return cls(model, drawn.prompt, classes_of(model, drawn.names()))

    @property
    def answers(self) -> Float[np.ndarray, " picture"]:
        """1 for every picture that the whole model names rightly."""
        return (self.full.probabilities.argmax(-1) == self.right).astype(float)

    def lost(self, pruned: Sequence[str]) -> Losses:
        """Return what is lost without these heads, by measure; above 0: they mattered."""
        with turn_off(self.model, pruned, mode="zero").on(self.model):
            said = predictions(self.model, self.prompt)
        return dict(zip(METRICS, prune_metrics(self.full, said, self.right), strict=True))

    @property
    def layers(self) -> list[int]:
        """The layer of every head, as the model numbers it."""
        return [layer_of(head) for head in self.heads]

    def choose(
        self,
        share: float,
        *,
        choosing: int,
        draws: int,
        seed: int,
        each: Callable[[Sequence[str]], Iterable[str]] = iter,
    ) -> ChosenHeads:
        """Prune every head by itself, and choose the share of them that is missed most (`choose_heads`).

        Args:
            choosing: How many pictures heads are chosen on, the first ones.
            draws: Random sets, as many heads in each layer.
            each: Walks over the heads, such as one that tells how far it is.
        """
        losses = {head: self.lost([head]) for head in each(self.heads)}
        return choose_heads(losses, share, choosing=choosing, draws=draws, seed=seed)

    def answers_without(self, pruned: Sequence[str]) -> Float[np.ndarray, " picture"]:
        """Return 1 for every picture that is named rightly without these heads."""
        return self.answers - self.lost(pruned)["accuracy"]

    def alone_in_layer(self, head: str) -> Float[np.ndarray, " picture"]:
        """Return the divergence where a head is all that is left of its layer, in nats."""
        return self.lost(others_of_layer(head, self.heads))["divergence"]

    def answers_of_sets(
        self, chosen: Sequence[str], draws: Sequence[Sequence[str]]
    ) -> tuple[Float[np.ndarray, " picture"], ...]:
        """Return right answers of the whole model, without the chosen heads, and the mean without each random set."""
        random = np.mean([self.answers_without(drawn) for drawn in draws], axis=0)
        return self.answers, self.answers_without(chosen), np.asarray(random)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenHeads:
    """Heads that are missed most on some pictures, and what every head loses on the others, pruned by itself.

    Attributes:
        chosen: The heads, the first the most missed.
        draws: As many random heads of the same layers, several times.
        losses: By head, on pictures on which nothing was chosen.
    """

    chosen: list[str]
    draws: Sequence[Sequence[str]]
    losses: Mapping[str, Losses]

    def mean(self, heads: Sequence[str], measure: str = "divergence") -> Float[np.ndarray, " picture"]:
        """Return what some of the heads lose, mean over them (`mean_loss`)."""
        return mean_loss(self.losses, heads, measure)

    def by_head(self, measure: str = "divergence") -> dict[str, float]:
        """Return what is lost without each head, mean over the pictures on which nothing was chosen."""
        return {head: float(found[measure].mean()) for head, found in self.losses.items()}

    def added(self, heads: Sequence[str]) -> Float[np.ndarray, " picture"]:
        """Return what some of the heads lose, pruned one by one and added up, in nats of divergence."""
        return len(heads) * self.mean(heads)

    @property
    def share(self) -> float:
        """The share of the chosen heads in what all heads lose, added up over heads and pictures; 0 of nothing."""
        every = self.added(list(self.losses)).sum()
        return float(self.added(self.chosen).sum() / every) if every else 0.0


def choose_heads(
    losses: Mapping[str, Losses], share: float, *, choosing: int, draws: int, seed: int
) -> ChosenHeads:
    """Choose the share of the heads without which most is lost on the first pictures, and random heads beside them.

    Args:
        losses: By head, on all pictures.
        choosing: How many pictures heads are chosen on.
        draws: Random sets, as many heads in each layer.

    Example:
        >>> losses = {f"a0.h{i}": {"divergence": np.array([i, 9.0])} for i in range(4)}
        >>> found = choose_heads(losses, 0.25, choosing=1, draws=1, seed=0)
        >>> found.chosen, found.mean(found.chosen).tolist()
        (['a0.h3'], [9.0])
    """
    chosen = most_missed(on_pictures(losses, slice(choosing)), share)
    random = matched_heads(chosen, list(losses), draws=draws, seed=seed, short="all")
    return ChosenHeads(chosen=chosen, draws=random, losses=on_pictures(losses, slice(choosing, None)))


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


def head_rows(
    pruned: Pruning, found: ChosenHeads, rows: Mapping[str, Mapping[str, float]]
) -> list[dict[str, str | float]]:
    """Return a row for every head: what is lost without it, where it is alone in its layer, and other columns.

    Args:
        rows: The other columns by head, such as how far it looks.
    """
    mean = mean_by_measure(found.losses)
    n = len(next(iter(found.losses.values()))["divergence"])  # the last pictures, on which nothing was chosen
    return [
        {"head": head}
        | {f"{name} lost": losses[i] for name, losses in mean.items()}
        | {"divergence, alone in its layer": float(pruned.alone_in_layer(head)[-n:].mean())}
        | dict(rows[head])
        for i, head in enumerate(pruned.heads)
    ]


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
