"""Streams of keys and values for memories, and how well a memory that read one recalls each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.model.hooks import hook_name
from workbench.model.sight import require_texts
from workbench.training.mixers.associative import Rule, store

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Keys = Float[Tensor, "stream pair d_key"]
Stored = Float[Tensor, "stream pair d_value"]
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


def drawn_pairs(pairs: int, d: int, *, streams: int, seed: int) -> tuple[Keys, Stored]:
    """Return random keys and values of length 1."""
    drawn = torch.Generator().manual_seed(seed)
    both = torch.randn(2, streams, pairs, d, generator=drawn, dtype=torch.float64)
    keys, values = F.normalize(both, dim=-1)
    return keys, values


def with_outliers(
    values: Stored, *, many: int, size: float, seed: int
) -> tuple[Stored, Int[Tensor, "stream outlier"]]:
    """Return the values with some ``size`` times as long, and which they are.

    Raises:
        OptionError: unless at least one value stays as it is.
    """
    n = values.shape[1]
    if not 1 <= many < n:
        raise OptionError(
            f"{many} outliers among {n} values; at least one has to be none", hint=f"many={max(n // 10, 1)}"
        )
    drawn = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randperm(n, generator=drawn)[:many] for _ in values])
    factor = torch.ones(values.shape[:2], dtype=values.dtype).scatter(1, places, size)
    return values * factor[..., None], places


def recalled(
    state: Float[Tensor, "stream d_value d_key"], keys: Keys, values: Stored
) -> Float[Tensor, "stream pair"]:
    """Return the cosine of what a memory says for each key with its value; 0 for a memory that says nothing."""
    said = torch.einsum("svk,snk->snv", state, keys)
    return F.cosine_similarity(said, values, dim=-1)


def recall(
    rule: Rule,
    keys: Keys,
    values: Stored,
    *,
    wanted: Stored | None = None,
    rate: float = 1.0,
    keep: float = 1.0,
) -> Float[Tensor, "stream pair"]:
    """Let a memory read pairs one after the other, then ask for every key again.

    Args:
        wanted: Values that the answers are compared with; by default those that were read.
        rate, keep: Of the rule (`store`).

    Returns:
        The cosine of each answer with the value wanted, from -1 to 1; 0 for a memory that says nothing.

    Example:
        >>> keys = torch.eye(3)[None]
        >>> recall("delta", keys, keys).tolist(), recall("delta", keys, keys, wanted=keys.roll(1, 1)).tolist()
        ([[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]])
    """
    state = store(rule, keys, values, rate=rate, keep=keep)
    return recalled(state, keys, values if wanted is None else wanted)


def mean_but(
    cosines: Float[Tensor, "stream pair"], places: Int[Tensor, "stream outlier"]
) -> Float[Tensor, " stream"]:
    """Return the mean over the pairs of each stream that are not at these places.

    Example:
        >>> mean_but(torch.tensor([[1.0, 0.0, 0.5]]), torch.tensor([[1]])).tolist()
        [0.75]
    """
    counts = torch.ones_like(cosines).scatter(1, places, 0.0)
    return (cosines * counts).sum(1) / counts.sum(1)


def best_rate(
    rule: Rule, keys: Keys, values: Stored, *, rates: Sequence[float] = RATES, keep: float = 1.0
) -> float:
    """Return the rate with which a memory recalls these pairs best; give other pairs than those that are reported."""
    found = [float(recall(rule, keys, values, rate=rate, keep=keep).mean()) for rate in rates]
    return rates[max(range(len(rates)), key=lambda i: found[i])]


@torch.no_grad()
def head_pairs(
    model: TransformerBridge, *, texts: int, tokens: int, seed: int = 0
) -> tuple[list[str], Float[Tensor, "head text token d_head"], Float[Tensor, "head text token d_head"]]:
    """Return keys and values of every key-value head on random texts; keys are scaled to length 1.

    Returns:
        Heads as addresses (``a2.h0``; of grouped heads the group's number), keys and values.
    """
    require_texts(model, "what heads keep")
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.cfg.d_vocab, (texts, tokens), generator=drawn)
    names = {(i, part): hook_name(part, i) for i in range(model.cfg.n_layers) for part in ("k", "v")}
    _, seen = model.run_with_cache(ids, names_filter=list(names.values()))
    keys, values = (
        torch.cat([seen[names[i, part]].permute(2, 0, 1, 3) for i in range(model.cfg.n_layers)]).double()
        for part in ("k", "v")
    )
    per_layer = len(keys) // model.cfg.n_layers
    heads = [f"a{i}.h{head}" for i in range(model.cfg.n_layers) for head in range(per_layer)]
    return heads, F.normalize(keys, dim=-1), values
