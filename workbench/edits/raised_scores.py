"""Emphasis on chosen patches (Arif et al. 2025): their scores are raised by a share of their size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ModelError, ShapeError
from workbench.edits.emphasise import Emphasise
from workbench.edits.place import Change, Place, Seen
from workbench.engine.interventions.surgery import add_to_scores
from workbench.heads.asked_pictures import AskedPictures, Under
from workbench.heads.dual_stream import DualStream
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def raised(
    scores: Float[Tensor, "*batch key"], factors: Float[Tensor, "*#batch key"]
) -> Float[Tensor, "*batch key"]:
    """Add a share of its own size to every score; masked scores stay as they are.

    Example:
        >>> raised(torch.tensor([1.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])).tolist()
        [2.0, 0.0, 0.0]
    """
    return scores + _rise(scores, factors)


def changes_of(edit: Emphasise, place: Place) -> Sequence[Change]:
    """Patterns of the layers: what their scores would give after they are raised."""
    return [
        Change(layer=layer, site="pattern", heads=heads, fn=_emphasised(edit), reads=("scores",))
        for layer, heads in place.heads(edit.addresses()).items()
    ]


def _emphasised(edit: Emphasise):
    def emphasised(pattern: Tensor, seen: Seen) -> Tensor:
        if "scores" not in seen:
            raise ModelError("the model shows no scores", hint="open it with eager attention")
        told, n = edit.local.shape[1], pattern.shape[-1]
        if len(edit.local) != len(pattern) or n < told:
            raise ShapeError(
                f"the edit was made for {len(edit.local)} prompts of {told} tokens; {len(pattern)} of {n} are run",
                hint="make the edit anew for these prompts: Emphasise(layers=..., local=..., summary=...)",
            )
        factors = torch.zeros(len(pattern), n, device=pattern.device)
        factors[:, :told] = edit.alpha * edit.local.to(factors) + edit.beta * edit.summary.to(factors)
        rows = torch.arange(n, device=pattern.device)[:, None] >= told - 1
        rise = _rise(seen["scores"], factors[:, None, None])
        return torch.where(rows, add_to_scores(pattern, rise), pattern)

    return emphasised


def _rise(scores: Tensor, factors: Tensor) -> Tensor:
    hidden = scores <= torch.finfo(scores.dtype).min / 2
    return torch.where(hidden, 0.0, factors.to(scores) * scores.abs())


def emphasis(
    model: TransformerBridge, asked: AskedPictures, kinds: DualStream, *, alpha: float, beta: float
) -> Under:
    """Make what a pass over some questions is in: their patches' scores are raised in all layers but the first.

    Args:
        kinds: The patches of every picture, for detail (``alpha``) and for the whole (``beta``).
    """
    local, summary = (asked.keys(mask.cpu().numpy()) for mask in (kinds.local, kinds.summary))
    layers = wiring(model).attention_layers[1:]

    def on(rows: slice) -> AbstractContextManager:
        edit = Emphasise(layers=layers, local=local[rows], summary=summary[rows], alpha=alpha, beta=beta)
        return edit.on(model)

    return on
