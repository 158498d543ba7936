"""Masks on attention: who may look at whom, what can be reached through layers, and a mask as an edit.

A mask is ``(query, key)``, true where a query may look. It restricts a model's own mask, or opens it where attention
can be made again from queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError
from workbench.edits.kinds import Mask, mask
from workbench.edits.place import Change, Place, Seen
from workbench.edits.rotary import own_positions, rotary_of
from workbench.edits.visible import visible
from workbench.engine.interventions.surgery import drop_keys

Allowed = Bool[Tensor, "query key"]


@mask("causal")
def causal(n: int) -> Allowed:
    """Every query sees itself and what comes before."""
    return torch.ones(n, n, dtype=torch.bool).tril()


@mask("window")
def window(n: int, width: int, *, sinks: int = 0) -> Allowed:
    """The last ``width`` keys, and the first ``sinks``; ``n`` layers reach ``n (width - 1) + 1`` tokens."""
    distance = _distance(n)
    return causal(n) & ((distance < width) | (torch.arange(n) < sinks))


@mask("at-distances")
def at_distances(n: int, distances: Sequence[int]) -> Allowed:
    """Keys at these distances; a dilated window is ``range(0, w * d, d)``."""
    return causal(n) & torch.isin(_distance(n), torch.tensor(sorted({int(d) for d in distances})))


@mask("powers-of-two")
def powers_of_two(n: int) -> Allowed:
    """Distances 0, 1, 2, 4, ...: ``m`` layers reach every distance below ``2**m`` (PowerAttention, Chen 2025)."""
    return at_distances(n, [0, *(1 << i for i in range(max(1, n).bit_length()))])


@mask("neighborhood")
def neighborhood(n: int, width: int) -> Allowed:
    """Exactly ``width`` keys around each query; at the borders the window is shifted inwards. Not causal."""
    if not 1 <= width <= n:
        raise OptionError(f"width is {width}; 1 to {n} fit into {n} tokens")
    start = (torch.arange(n) - width // 2).clamp(0, n - width)[:, None]
    key = torch.arange(n)
    return (key >= start) & (key < start + width)


def unlock(allowed: Allowed, queries: tuple[int, int], keys: tuple[int, int]) -> Allowed:
    """Return the mask with one more rectangle: tokens of ``queries`` may look at tokens of ``keys``, ahead too."""
    new = allowed.clone()
    new[queries[0] : queries[1], keys[0] : keys[1]] = True
    return new


def unlock_at_random(
    allowed: Allowed, entries: int, *, seed: int, queries: tuple[int, int] | None = None
) -> Allowed:
    """Return the mask with so many more entries, drawn among those that it closes: what `unlock` is compared with.

    Args:
        queries: Rows in which they are drawn, those of `unlock` for a fair comparison; by default all.

    Raises:
        OptionError: if it does not close so many.

    Example:
        >>> more = unlock_at_random(causal(4), 2, seed=0)
        >>> int(more.sum()) - int(causal(4).sum()), bool((more | ~causal(4)).all())
        (2, True)
    """
    first, end = queries or (0, len(allowed))
    rows = torch.arange(len(allowed))[:, None]
    closed = (~allowed & (rows >= first) & (rows < end)).flatten().nonzero().flatten()
    if not 0 <= entries <= len(closed):
        where = f" in rows {first} to {end - 1}" if queries else ""
        raise OptionError(f"{entries} entries are to be opened; the mask closes {len(closed)}{where}")
    drawn = torch.randperm(len(closed), generator=torch.Generator().manual_seed(seed))[:entries]
    new = allowed.flatten().clone()
    new[closed[drawn]] = True
    return new.view_as(allowed)


def reach(masks: Sequence[Allowed]) -> Allowed:
    """Say what each query can have received information from after these layers, the first mask first.

    A token keeps what it has (the residual stream), so it always reaches itself.
    """
    found = torch.eye(len(masks[0]), dtype=torch.bool)
    for allowed in masks:
        found = found | ((allowed.float() @ found.float()) > 0)
    return found


def reached(mask: Allowed, layers: int, query: int = -1) -> list[int]:
    """Say how many tokens one query reaches after 1, 2, ... layers of the same mask.

    Example:
        >>> reached(window(64, 9), 3)
        [9, 17, 25]
    """
    return [int(reach([mask] * (i + 1))[query].sum()) for i in range(layers)]


def _distance(n: int) -> Int[Tensor, "query key"]:
    at = torch.arange(n)
    return at[:, None] - at


def changes_of(edit: Mask, place: Place) -> Sequence[Change]:
    """Return patterns over the keys that the mask allows."""
    return [
        Change(
            layer=layer,
            site="pattern",
            heads=heads,
            fn=_masked(edit, place, layer),
            reads=("q", "k"),
            forward=True,
        )
        for layer, heads in place.heads(edit.heads).items()
    ]


def _masked(edit: Mask, place: Place, layer: int):
    def masked(pattern: Tensor, seen: Seen) -> Tensor:
        n = pattern.shape[-1]
        if n > len(edit.allowed):
            raise OptionError(f"the mask is for {len(edit.allowed)} tokens; the prompt has {n}")
        allowed = edit.allowed[:n, :n].to(pattern.device)
        own = visible(place, layer, n, pattern.device)
        if bool((allowed & ~own).any()):
            return _opened(place, layer, pattern, seen, allowed)
        if bool((~(allowed & own).any(-1)).any()):
            raise OptionError("the mask leaves a query without any key", hint="let every token see itself")
        new = drop_keys(pattern, ~allowed)
        if bool(new.masked_select(~allowed).any()):
            raise ModelError(f"layer {layer}: the allowed keys of a query have no weight left to share out")
        return new

    return masked


def _opened(place: Place, layer: int, pattern: Tensor, seen: Seen, allowed: Allowed) -> Tensor:
    """Attention over keys that the model hides: made again from queries and keys, rotary or without positions.

    Raises:
        ModelError: if what is made again is not the model's own where the model looks.
    """
    q, k = seen["q"], seen["k"]
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    own = visible(place, layer, pattern.shape[-1], pattern.device)
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


def recompute_scores(q: Tensor, k: Tensor) -> Tensor:
    """Return ``q . k / sqrt(d_head)`` for every query and key."""
    return torch.einsum("bqhe,bkhe->bhqk", q, k) / q.shape[-1] ** 0.5
