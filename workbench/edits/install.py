"""Turn the changes of an edit into hooks, and check at every run that each pattern row is still a distribution.

Where edits of patterns are discarded (attention that Hugging Face computes), the pattern is made again from queries and
keys, changed, and written to the head's output; where there is no exact way, the edit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.edits.edit import ModelEdit
from workbench.edits.place import At, Change, Place
from workbench.edits.visible import visible
from workbench.model.hooks import TOLERANCE, hook_name
from workbench.model.pattern_rows import sink_share
from workbench.model.probe import recompute_pattern, wiring
from workbench.model.standing import edited

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Hook = tuple[str, Callable[..., Tensor | None]]
_REWRITTEN: WeakKeyDictionary[torch.nn.Module, set[int]] = WeakKeyDictionary()


@contextmanager
def standing(
    edit: ModelEdit, model: TransformerBridge, *, at: At | None, decode_from: int | None
) -> Iterator[None]:
    """The edit on the model, which says so in everything that is measured meanwhile; see ``ModelEdit.on``."""
    place = Place(model=model, wiring=wiring(model), at=at, decode_from=decode_from)
    changes = edit.changes(place)
    if not edit.reads_elsewhere and getattr(model, "name", None) == "cross":
        _refuse_patterns(edit, changes)
    with installed(place, changes), edited(model, edit.describe()):
        yield


def _refuse_patterns(edit: ModelEdit, changes: Sequence[Change]) -> None:
    """Refuse an edit of square patterns where keys are other positions than queries."""
    if any(change.site == "pattern" for change in changes):
        raise ModelError(
            f"this stack looks at other positions than its own; an edit {edit.kind!r} is of tokens among themselves",
            hint="looks at words of a caption: WordLooks(heads=('a0',), slots=('first colour',), inside=3.0)",
        )


@contextmanager
def installed(place: Place, changes: Sequence[Change]) -> Iterator[None]:
    """Hooks for these changes, gone afterwards.

    Raises:
        ModelError: if a change would do nothing on this model, or two edits that are not stacked meet where each
            pattern can be made again only once.
    """
    live = "pattern" in place.wiring.live
    _check(place, changes)
    remade = set() if live else {change.layer for change in changes if change.site == "pattern"}
    held = _REWRITTEN.setdefault(place.model, set())
    if remade & held:
        raise ModelError(
            f"another edit of layer {min(remade & held)} is active, and this model's patterns are made again once",
            hint="stack([first, second]).on(model)",
        )
    with ExitStack() as scope:
        held |= remade
        scope.callback(held.difference_update, remade)
        scope.enter_context(place.model.hooks(fwd_hooks=_hooks(place, changes, live=live)))
        yield


def _check(place: Place, changes: Sequence[Change]) -> None:
    wired = place.wiring
    for change in changes:
        if change.site == "pattern" and not ("pattern" in wired.live or wired.pattern_by_recompute):
            raise ModelError(
                f"layer {change.layer}: edits of the attention pattern are silently ignored by this architecture, "
                "and its pattern cannot be made again from queries and keys",
                hint="where attention is plain, float32 lets it be written to the head output: --dtype float32",
            )
        if change.site == "head-output" and "head-output" not in wired.live:
            raise ModelError(
                f"layer {change.layer}: edits of head outputs are silently ignored here",
                hint="workbench model show NAME says which edits work on this model",
            )
        if change.layer not in wired.attention_layers:
            raise ModelError(
                f"the model has no attention layer {change.layer}",
                hint=f"attention layers: {', '.join(map(str, wired.attention_layers)) or 'none'}",
            )


def _hooks(place: Place, changes: Sequence[Change], *, live: bool) -> list[Hook]:
    hooks: list[Hook] = []
    for layer in sorted({change.layer for change in changes}):
        own = [change for change in changes if change.layer == layer]
        patterns = [change for change in own if change.site == "pattern"]
        outputs = [change for change in own if change.site == "head-output"]
        reads = {name for change in own for name in change.reads}
        remake = bool(patterns) and not live
        seen: dict[str, Tensor] = {}
        slots = sorted((reads | ({"q", "k", "v"} if remake else set())) - {"ids"})
        hooks += [(hook_name(slot, layer), _keep(seen, slot)) for slot in slots]
        if "ids" in reads:
            hooks.append(("embed.hook_in", _keep(seen, "ids")))
        if patterns and live:
            hooks.append((hook_name("pattern", layer), _pattern_hook(place, layer, patterns, seen)))
        if outputs or remake:
            hooks.append(
                (
                    hook_name("head-output", layer),
                    _output_hook(place, layer, patterns if remake else (), outputs, seen),
                )
            )
    return hooks


def _keep(seen: dict[str, Tensor], name: str) -> Callable[..., None]:
    def store(tensor: Tensor, hook) -> None:
        seen[name] = tensor

    return store


def _pattern_hook(
    place: Place, layer: int, changes: Sequence[Change], seen: dict[str, Tensor]
) -> Callable[..., Tensor]:
    def edit(pattern: Tensor, hook) -> Tensor:
        return change_pattern(place, layer, pattern, changes, seen)

    return edit


def _output_hook(
    place: Place,
    layer: int,
    patterns: Sequence[Change],
    outputs: Sequence[Change],
    seen: dict[str, Tensor],
) -> Callable[..., Tensor]:
    def edit(z: Tensor, hook) -> Tensor:
        if patterns:
            z = _through_output(place, layer, z, patterns, seen)
        for change in outputs:
            z = _changed(change, z, seen, head_axis=2)
        return z

    return edit


def _through_output(
    place: Place, layer: int, z: Tensor, changes: Sequence[Change], seen: dict[str, Tensor]
) -> Tensor:
    """The pattern made again, changed, and multiplied with the values, for the heads that change.

    Raises:
        ModelError: if the pattern made again does not give the output that the model computed.
    """
    pattern = recompute_pattern(seen["q"], seen["k"], place.wiring.causal)
    own = torch.einsum("bhqk,bkhe->bqhe", pattern, seen["v"])
    error = float((own - z).detach().abs().max() / (1 + z.detach().abs().max()))
    if not error <= 1e-3:  # float32 rounding is below 1e-6 here
        raise ModelError(
            f"layer {layer}: the attention pattern cannot be made again here (off by {error:.2g})",
            hint="edit head outputs here: Affine.of(model, heads, a=0.0)",
        )
    new = change_pattern(place, layer, pattern, changes, seen)
    if torch.equal(new, pattern):  # the own output to the last bit
        return z
    heads = tuple(sorted({h for change in changes for h in change.heads}))
    mask = torch.zeros(z.shape[2], dtype=torch.bool, device=z.device)
    mask[list(heads)] = True
    return torch.where(mask[:, None], torch.einsum("bhqk,bkhe->bqhe", new, seen["v"]), z)


def change_pattern(
    place: Place, layer: int, pattern: Tensor, changes: Sequence[Change], seen: dict[str, Tensor]
) -> Tensor:
    """Apply pattern changes one after the other; each is checked.

    Raises:
        ModelError: if a row is no longer non-negative, causal and of its former sum (beside a learned sink: of at
            most 1).
    """
    for change in changes:
        new = _changed(change, pattern, seen, head_axis=1)
        _check_rows(place, layer, _part(pattern, change.heads, 1), _part(new, change.heads, 1), change)
        pattern = new
    return pattern


def _changed(change: Change, before: Tensor, seen: dict[str, Tensor], *, head_axis: int) -> Tensor:
    """The tensor with the heads of a change as it makes them, and the others as they were."""
    if change.alone:
        part = change.fn(_part(before, change.heads, head_axis), seen)
    else:
        part = _part(change.fn(before, seen), change.heads, head_axis)
    if len(change.heads) == before.shape[head_axis]:
        return part.to(before.dtype)
    heads = torch.tensor(change.heads, device=before.device)
    return before.index_copy(head_axis, heads, part.to(before.dtype))


def _part(tensor: Tensor, heads: Sequence[int], head_axis: int) -> Tensor:
    """Some heads; of all heads the tensor itself: patterns are the largest tensors there are."""
    if len(heads) == tensor.shape[head_axis]:
        return tensor
    return tensor.index_select(head_axis, torch.tensor(heads, device=tensor.device))


@torch.no_grad()
def _check_rows(place: Place, layer: int, before: Tensor, after: Tensor, change: Change) -> None:
    where, tolerance = f"layer {layer}: the edited attention", 10 * TOLERANCE.get(after.dtype, 2e-4)
    if not bool((after >= (-torch.inf if change.signed else 0)).all()):
        raise ModelError(
            f"{where} has {'' if change.signed else 'negative weights or '}NaN",
            hint="make the function return weights of at least 0, without NaN",
        )
    if not change.leaks:
        total = after.float().sum(-1)
        off = (total - before.float().sum(-1)).abs()
        # Where a learned sink takes a share, a change of scores changes that share too, between 0 and 1.
        error = float(torch.where(sink_share(before)[..., 0] > 0, (total - 1).clamp(min=0), off).max())
        if not error <= tolerance:
            raise ModelError(
                f"{where} does not sum to what it did (off by {error:.2g})",
                hint="divide each row by its sum, or allow other sums: mass='leak'",
            )
    if not change.forward:
        hidden = ~visible(place, layer, after.shape[-1], after.device)
        if bool(after.masked_select(hidden).any()):
            raise ModelError(
                f"{where} looks at keys that the model's mask hides", hint="a query looks back, never ahead"
            )
