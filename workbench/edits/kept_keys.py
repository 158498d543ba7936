"""Patterns over some of a query's keys: own weights in proportion, from the scores where these are too small."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.edits.place import Place, Seen
from workbench.edits.visible import visible
from workbench.engine.interventions.surgery import drop_keys, set_rows

Pattern = Float[Tensor, "row head query key"]
Kept = Bool[Tensor, "*#rows query key"]
CLOSE = 1e-3  # float32 patterns made again from their scores are within 1e-6


def keep_own(place: Place, layer: int, pattern: Tensor, kept: Kept, seen: Seen) -> Tensor:
    """Return the softmax over kept keys: own weights in proportion; from the scores where these are all too small."""
    kept = kept.expand_as(pattern)
    new = drop_keys(pattern, ~kept)
    lost = new.masked_fill(kept, 0.0).sum(-1, keepdim=True) > 0
    if not bool(lost.any()):
        return new
    scores = own_scores(place, layer, pattern, seen).masked_fill(~kept, -torch.inf)
    return torch.where(lost, set_rows(pattern, scores.softmax(-1)), new)


def own_scores(place: Place, layer: int, pattern: Tensor, seen: Seen) -> Tensor:
    """Return the scores before the softmax, masked as the model's are.

    Raises:
        ModelError: if their softmax is not the model's pattern: learned sinks, or scores shown otherwise.
    """
    own = visible(place, layer, pattern.shape[-1], pattern.device)
    q, k = seen.get("q"), seen.get("k")
    if "scores" in seen:
        scores = seen["scores"]
    elif q is not None and k is not None:
        scores = recompute_scores(q, k.repeat_interleave(q.shape[2] // k.shape[2], dim=2))
    else:
        raise ModelError(
            f"layer {layer}: the model shows no scores before the softmax",
            hint="choose a pattern that needs no scores: --with uniform",
        )
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~own, -torch.inf)
    error = float((scores.softmax(-1) - pattern).abs().max())
    if not error <= (CLOSE if pattern.dtype.itemsize >= 4 else 0.05):
        raise ModelError(
            f"layer {layer}: the softmax of the scores differs from the model's pattern by {error:.2g}, so nothing "
            "can be made of its scores",
            hint="patterns mean, another-text, identity, uniform and top-k need no scores",
        )
    return scores


def recompute_scores(q: Tensor, k: Tensor) -> Tensor:
    """Return ``q . k / sqrt(d_head)`` for every query and key."""
    return torch.einsum("bqhe,bkhe->bhqk", q, k) / q.shape[-1] ** 0.5
