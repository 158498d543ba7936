"""Trials of memories: how well a rule recalls, with more pairs, beside outliers, by age, and on pairs of heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.training.mixers.associative import Rule
from workbench.training.mixers.memory_streams import (
    best_rate,
    drawn_pairs,
    head_pairs,
    mean_but,
    recall,
    with_outliers,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CHOOSING = 16  # streams on which the rate is chosen
OTHER_SEED = 50  # so far from the seed of the streams that are reported


@dataclass(frozen=True, kw_only=True, eq=False)
class Recalled:
    """What a memory recalls at the rate that was best on other streams.

    Attributes:
        own: Mean cosine of the answers with the values that were read, by stream.
        control: That with values of other keys, or where some values are outliers.
    """

    rate: float
    own: Float[np.ndarray, " stream"]
    control: Float[np.ndarray, " stream"]


def recall_of_drawn(rule: Rule, pairs: int, d: int, *, streams: int, seed: int) -> Recalled:
    """Let a memory read random pairs and ask for each again; the control are the values of other keys.

    Example:
        >>> found = recall_of_drawn("delta", 4, 8, streams=6, seed=0)
        >>> bool(found.own.mean() > found.control.mean())
        True
    """
    keys, values = drawn_pairs(pairs, d, streams=streams, seed=seed)
    rate = _chosen_rate(rule, pairs, d, seed)
    others = recall(rule, keys, values, wanted=values.roll(1, 1), rate=rate)
    own = recall(rule, keys, values, rate=rate)
    return Recalled(rate=rate, own=own.mean(1).numpy(), control=others.mean(1).numpy())


def recall_beside_outliers(
    rule: Rule, pairs: int, d: int, *, many: int, size: float, streams: int, seed: int
) -> Recalled:
    """Ask a memory for ordinary pairs; the control read ``many`` values that were ``size`` times as long.

    The rate is chosen on streams without outliers. Places where outliers stand do not count in either.
    """
    keys, values = drawn_pairs(pairs, d, streams=streams, seed=seed)
    long, places = with_outliers(values, many=many, size=size, seed=seed)
    rate = _chosen_rate(rule, pairs, d, seed)
    beside, own = (
        mean_but(recall(rule, keys, given, wanted=values, rate=rate), places).numpy()
        for given in (long, values)
    )
    return Recalled(rate=rate, own=own, control=beside)


def _chosen_rate(rule: Rule, pairs: int, d: int, seed: int) -> float:
    return best_rate(rule, *drawn_pairs(pairs, d, streams=CHOOSING, seed=seed + OTHER_SEED))


@dataclass(frozen=True, kw_only=True, eq=False)
class ByAge:
    """What a memory recalls of pairs in the order in which it read them, the oldest first."""

    cosines: Float[np.ndarray, "stream pair"]

    @property
    def oldest(self) -> Float[np.ndarray, " stream"]:
        """The oldest quarter."""
        return self.cosines[:, : self.cosines.shape[1] // 4].mean(1)

    @property
    def newest(self) -> Float[np.ndarray, " stream"]:
        """The newest quarter."""
        return self.cosines[:, -(self.cosines.shape[1] // 4) :].mean(1)

    def row(self) -> dict[str, float]:
        """Return the mean of every quarter; of the oldest and the newest where pairs have no quarters."""
        n, told = self.cosines.shape[1], np.array([self.oldest.mean(), self.newest.mean()])
        if n % 4 == 0:
            told = self.cosines.reshape(-1, 4, n // 4).mean((0, 2))
        return {f"part {i}": float(part) for i, part in enumerate(told, start=1)}


def recall_by_age(rule: Rule, pairs: int, d: int, *, keep: float, streams: int, seed: int) -> ByAge:
    """Let a memory that keeps so much at every step read random pairs at rate 1.

    Example:
        >>> forgets = recall_by_age("delta", 12, 8, keep=0.5, streams=6, seed=0)
        >>> bool(forgets.newest.mean() > forgets.oldest.mean()), list(forgets.row())
        (True, ['part 1', 'part 2', 'part 3', 'part 4'])
    """
    keys, values = drawn_pairs(pairs, d, streams=streams, seed=seed)
    return ByAge(cosines=recall(rule, keys, values, keep=keep).numpy())


def recall_of_heads(
    model: TransformerBridge, rules: Sequence[Rule], *, texts: int, tokens: int, seed: int
) -> tuple[list[str], dict[str, Float[np.ndarray, "head text"]]]:
    """Recall a head's own values from its own keys, on random texts (`head_pairs`), by each of the rules.

    Returns:
        Heads as addresses, and by rule the mean cosine over the tokens of a text.
    """
    heads, keys, values = head_pairs(model, texts=texts, tokens=tokens, seed=seed)
    streams = keys.flatten(0, 1), values.flatten(0, 1)
    return heads, {
        str(rule): recall(rule, *streams).mean(1).cpu().numpy().reshape(-1, texts) for rule in rules
    }
