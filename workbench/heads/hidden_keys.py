"""Positions that nobody looks at for a while, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@contextmanager
def hidden_keys(
    model: TransformerBridge,
    hidden: Bool[Tensor, "*row _query key"],
    *,
    layers: Sequence[int] | None = None,
) -> Iterator[None]:
    """Hide keys before the softmax, in all heads of some layers: what is left keeps its proportions.

    A head that gave a hidden key nothing stays as it is to the last bit.

    Args:
        hidden: Which keys a query does not see; with rows, those of each prompt.
        layers: By default all with attention.

    Raises:
        ModelError: if scores cannot be seen in a layer.
    """
    chosen = wiring(model).attention_layers if layers is None else layers
    names = [f"blocks.{layer}.attn.hook_attn_scores" for layer in chosen]
    if missing := [name for name in names if name not in model.hook_dict]:
        raise ModelError(f"{missing[0]} is not there: keys cannot be hidden", hint='how="remove"')
    away = hidden if hidden.ndim == 2 else hidden[:, None]  # (row, head, query, key)

    def hide(scores: Tensor, hook) -> Tensor:
        return scores.masked_fill(away.to(scores.device), torch.finfo(scores.dtype).min)

    with model.hooks(fwd_hooks=[(name, hide) for name in names]):
        yield
