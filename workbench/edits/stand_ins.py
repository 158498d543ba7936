"""What stands in for a head's own pattern: computed from its pattern and scores in the run, or recorded before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import ModelError, ShapeError
from workbench.edits.kept_keys import keep_own, own_scores
from workbench.edits.place import Change, Place, Seen
from workbench.edits.substitute import PER_PROMPT, RECORDED, Substitute
from workbench.edits.visible import visible
from workbench.engine.interventions.surgery import set_rows

Pattern = Float[Tensor, "row head query key"]
Visible = Bool[Tensor, "query key"]
Kept = Bool[Tensor, "*#row #head query key"]


def key_only(scores: Pattern, own: Visible) -> Pattern:
    """Return rows whose scores depend on the key alone: every query has, at a key, the score of that key's own token.

    ``A[t] = softmax over visible s of S[s, s]``: with ``q`` and ``k`` of one place, as in Xue et al. 2025
    (Non-approximate), without its SiLU, which would have to be trained.

    Example:
        >>> key_only(torch.zeros(1, 1, 2, 2), torch.ones(2, 2).tril().bool())[0, 0].tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    same = scores.diagonal(dim1=-2, dim2=-1)[..., None, :].expand_as(scores)
    return same.masked_fill(~own, -torch.inf).softmax(-1)


def taylor(scores: Pattern, own: Visible, order: int = 2) -> Pattern:
    """Return the pattern with the exponential's polynomial in place of it: ``sum_i S**i / i!``, divided by its sum.

    An even order is positive everywhere; an odd one may give negative weights.

    Raises:
        ModelError: if the weights of a query do not sum to more than 0, so that no row can be made of them.

    Source:
        Xue et al. 2025 (Approximate), with order 2.

    Example:
        >>> scores = torch.tensor([[[[0.0, 9.0], [1.0, 0.0]]]])
        >>> taylor(scores, torch.ones(2, 2).tril().bool(), order=1)[0, 0, 1].tolist()
        [0.6666666865348816, 0.3333333432674408]
    """
    scores, weights = scores.masked_fill(~own, 0.0), torch.ones_like(scores)
    for power in range(1, order + 1):
        weights = weights + scores**power / factorial(power)
    weights = weights.masked_fill(~own, 0.0)
    total = weights.sum(-1, keepdim=True)
    if not bool((total > 0).all()):
        raise ModelError(
            f"the weights of order {order} of a query sum to {float(total.min()):.3g}; a row sums to 1 after division",
            hint="an even order is positive everywhere: --order 2",
        )
    return weights / total


def keep_top(pattern: Float[Tensor, "*rows key"], keys: int) -> Bool[Tensor, "*rows key"]:
    """Say which keys have most of each row's own weight, ``keys`` of them or all."""
    chosen = pattern.topk(min(keys, pattern.shape[-1]), dim=-1).indices
    return torch.zeros_like(pattern, dtype=torch.bool).scatter(-1, chosen, True)


def keep_columns(pattern: Pattern, own: Visible, keys: int, *, causal: bool = True) -> Kept:
    """Say which keys have got most weight so far: summed over a query and those before it, of all without a mask."""
    got = pattern.cumsum(-2) if causal else pattern.sum(-2, keepdim=True).expand_as(pattern)
    return keep_top(got.masked_fill(~own, -1.0), keys)


def keep_blocks(pattern: Pattern, keys: int, block: int) -> Kept:
    """Say which blocks of neighbouring keys have most of each row's own weight: ``keys / block`` of them."""
    n = pattern.shape[-1]
    wide = torch.nn.functional.pad(pattern, (0, -n % block))
    mass = wide.unflatten(-1, (-1, block)).sum(-1)  # (row, head, query, block)
    return keep_top(mass, keys // block).repeat_interleave(block, dim=-1)[..., :n]


def keep_random(own: Visible, heads: int, keys: int, seed: int) -> Kept:
    """Say which keys were drawn among the visible: as many as ``keep_top`` keeps, the same for every prompt."""
    drawn = torch.rand(heads, *own.shape, generator=torch.Generator().manual_seed(seed)).to(own.device)
    return keep_top(drawn.masked_fill(~own, -1.0), keys)[None]


def changes_of(edit: Substitute, place: Place) -> Sequence[Change]:
    """Return the patterns that stand in, layer by layer."""
    reads = () if edit.pattern in (*RECORDED, "identity", "uniform") else ("scores", "q", "k")
    signed = edit.pattern == "taylor" and bool((edit.order or 0) % 2)
    return [
        Change(layer=n, site="pattern", heads=heads, fn=_stand_in(edit, place, n), reads=reads, signed=signed)
        for n, heads in place.heads(edit.heads).items()
    ]


def _stand_in(edit: Substitute, place: Place, layer: int) -> Callable[[Tensor, Seen], Tensor]:
    def put(pattern: Tensor, seen: Seen) -> Tensor:
        if edit.pattern in RECORDED:
            return _recorded(edit, place, layer, pattern)
        own = visible(place, layer, pattern.shape[-1], pattern.device)
        if edit.pattern == "identity":
            return set_rows(pattern, torch.eye(len(own), device=pattern.device))
        if edit.pattern == "uniform":
            return set_rows(pattern, own / own.sum(-1, keepdim=True))
        if edit.pattern == "key-only":
            return key_only(own_scores(place, layer, pattern, seen), own)
        if edit.pattern == "taylor":
            return taylor(own_scores(place, layer, pattern, seen), own, edit.order or 2)
        return keep_own(place, layer, pattern, _kept(edit, place, layer, pattern, own), seen)

    return put


def _kept(edit: Substitute, place: Place, layer: int, pattern: Tensor, own: Visible) -> Kept:
    keys = edit.keys or 0
    if edit.pattern == "top-k":
        return keep_top(pattern, keys)
    if edit.pattern == "column":
        return keep_columns(pattern, own, keys, causal=place.wiring.causal)
    if edit.pattern == "block":
        return keep_blocks(pattern, keys, edit.block or 1)
    return keep_random(own, pattern.shape[1], keys, edit.seed * 1009 + layer)


def _recorded(edit: Substitute, place: Place, layer: int, pattern: Tensor) -> Tensor:
    """What was recorded, for these prompts; of a longer text its upper left corner.

    Raises:
        ShapeError: if it was recorded on other or shorter prompts.
    """
    made, (rows, heads, n, _) = edit.patterns.get(f"a{layer}"), pattern.shape
    if made is None or made.ndim != 4 or made.shape[1] != heads or made.shape[2] != made.shape[3]:
        found = "none" if made is None else tuple(made.shape)
        raise ShapeError(
            f"layer {layer}: the recorded pattern is {found}; (row, {heads}, query, key) is expected",
            hint="record it on this model and these prompts",
        )
    exact = edit.pattern in PER_PROMPT or not place.wiring.causal
    if made.shape[0] not in (1, rows) or made.shape[2] < n or (exact and made.shape[2] != n):
        raise ShapeError(
            f"layer {layer}: pattern {edit.pattern} was recorded on {made.shape[0]} prompts of {made.shape[2]} tokens; "
            f"{rows} of {n} are run",
            hint="Substitute.of(model, ...) with these prompts, or with longer texts as reference",
        )
    return made[:, :, :n, :n].to(pattern).expand_as(pattern)
