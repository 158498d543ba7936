"""A mask by content as an edit: keys are chosen in the run, from the layer's own queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from workbench.core.errors import OptionError
from workbench.edits.kept_keys import keep_own
from workbench.edits.mask_kinds import ContentMask
from workbench.edits.place import Change, Place, Seen
from workbench.edits.visible import visible
from workbench.masks.derived import same_degree
from workbench.masks.registry import CONTENT_MASKS

__all__ = ["ContentMask", "changes_of"]


def changes_of(edit: ContentMask, place: Place) -> Sequence[Change]:
    """Return patterns over the keys that are chosen."""
    reads = ("scores", "q", "k", "v")
    return [
        Change(layer=layer, site="pattern", heads=heads, fn=_chosen(edit, place, layer), reads=reads)
        for layer, heads in place.heads(edit.heads).items()
    ]


def _chosen(edit: ContentMask, place: Place, layer: int) -> Callable[[Tensor, Seen], Tensor]:
    named = edit.named
    choose = CONTENT_MASKS.get(named.name)

    def masked(pattern: Tensor, seen: Seen) -> Tensor:
        own = visible(place, layer, pattern.shape[-1], pattern.device)
        heads = seen["q"].shape[2]
        q, k, v = (
            one.repeat_interleave(heads // one.shape[2], dim=2).transpose(1, 2)
            for one in (seen["q"], seen["k"], seen["v"])
        )  # (row, head, pos, d_head)
        kept = choose(q, k, v, own, **named.options)
        if bool((kept & ~own).any()):
            raise OptionError(
                f"mask {named.name} chooses keys that the model hides", hint="return chosen & own"
            )
        if not bool(kept.any(-1).all()):
            raise OptionError(f"mask {named.name} leaves a query without any key", hint="keep its own")
        if edit.random is not None:
            kept = same_degree(kept, seed=edit.random * 1009 + layer, among=own)
        return keep_own(place, layer, pattern, kept, seen)

    return masked
