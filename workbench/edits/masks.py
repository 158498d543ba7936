"""A mask as an edit: heads look only where it allows, and wider than the model where attention can be made again.

Masks themselves are in `workbench.masks`; their names here are the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.core.errors import ModelError, OptionError
from workbench.edits.kept_keys import keep_own, recompute_scores
from workbench.edits.mask_kinds import Mask
from workbench.edits.place import Change, Place, Seen
from workbench.edits.rotary import own_positions, rotary_of
from workbench.edits.visible import visible
from workbench.masks.derived import unlock, unlock_at_random
from workbench.masks.reachable import reach, reached
from workbench.masks.refusals import check_mask
from workbench.masks.registry import mask
from workbench.masks.sequences import at_distances, causal, neighborhood, powers_of_two, window

Allowed = Bool[Tensor, "query key"]
__all__ = [
    "Mask",
    "at_distances",
    "causal",
    "changes_of",
    "mask",
    "neighborhood",
    "powers_of_two",
    "reach",
    "reached",
    "recompute_scores",
    "unlock",
    "unlock_at_random",
    "window",
]


def changes_of(edit: Mask, place: Place) -> Sequence[Change]:
    """Return patterns over the keys that the mask allows.

    Raises:
        OptionError: if it leaves a query without any key that the model shows it.
    """
    n, found = len(edit.allowed), place.heads(edit.heads)
    for layer in found:
        check_mask(edit.allowed & visible(place, layer, n, edit.allowed.device))
    return [
        Change(
            layer=layer,
            site="pattern",
            heads=heads,
            fn=_masked(edit, place, layer),
            reads=("scores", "q", "k"),
            forward=True,
        )
        for layer, heads in found.items()
    ]


def _masked(edit: Mask, place: Place, layer: int) -> Callable[[Tensor, Seen], Tensor]:
    def masked(pattern: Tensor, seen: Seen) -> Tensor:
        n = pattern.shape[-1]
        if n > len(edit.allowed):
            raise OptionError(
                f"the mask is for {len(edit.allowed)} tokens; the prompt has {n}",
                hint=f"make it for prompts of {n} tokens or more: tokens={n}",
            )
        allowed = edit.allowed[:n, :n].to(pattern.device)
        own = visible(place, layer, n, pattern.device)
        if place.wiring.looks_ahead or bool((allowed & ~own).any()):
            return _opened(place, layer, pattern, seen, allowed)
        if bool((~(allowed & own).any(-1)).any()):
            raise OptionError("the mask leaves a query without any key", hint="let every token see itself")
        return keep_own(place, layer, pattern, allowed, seen)

    return masked


def _opened(place: Place, layer: int, pattern: Tensor, seen: Seen, allowed: Allowed) -> Tensor:
    """Attention over keys that the model hides: made again from queries and keys, rotary or without positions.

    Raises:
        ModelError: if what is made again is not the model's own where the model looks.
    """
    q, k = seen["q"], seen["k"]
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    own = visible(place, layer, pattern.shape[-1], pattern.device)
    if place.wiring.looks_ahead:  # and what its patches see of the words behind them
        own = own | (pattern > 0).any(0).any(0)
    lowest = torch.finfo(q.dtype).min
    try:
        scores = own_positions(rotary_of(place.model, layer), q, k)
    except ModelError:  # no rotary positions: plain products, which the comparison below confirms or refuses
        scores = recompute_scores(q, k)
    error = float((scores.masked_fill(~own, lowest).softmax(-1) - pattern).abs().max())
    if not error <= 1e-3:
        raise ModelError(
            f"layer {layer}: attention made again from queries and keys differs from the model's by {error:.2g}, so "
            "its mask cannot be opened",
            hint="masks that only restrict work",
        )
    return scores.masked_fill(~allowed, lowest).softmax(-1)
