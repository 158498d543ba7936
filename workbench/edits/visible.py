"""Which keys a query may look at in this model: causal, and no further back than a sliding window."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.edits.place import Place


def visible(place: Place, layer: int, n: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """Return the model's own mask for a prompt of ``n`` tokens without padding."""
    return _mask(n, place.wiring.causal, window_of(place.model, layer), str(device))


@lru_cache(maxsize=64)
def _mask(n: int, causal: bool, window: int | None, device: str) -> Bool[Tensor, "query key"]:
    q, k = torch.arange(n, device=device)[:, None], torch.arange(n, device=device)
    mask = torch.ones(n, n, dtype=torch.bool, device=device)
    if causal:
        mask &= k <= q
    return mask & (q - k < window) if window else mask


def window_of(model: Any, layer: int) -> int | None:
    """Return the width of the layer's sliding window as its configuration says; None for full attention."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    config = getattr(config, "text_config", config)
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True):
        return None
    kinds = getattr(config, "layer_types", None)
    return int(window) if not kinds or kinds[layer] == "sliding_attention" else None
