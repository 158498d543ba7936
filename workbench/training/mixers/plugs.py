"""What an attention of the lab is made of: source, score, mask, mix, gate, each a plain function or a module.

A plug with weights is a class of module that takes a `Width` (or a ``functools.partial`` of one, with its options);
it is made for every layer anew. A plug without weights is a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.core.errors import OptionError

LEAKS_NAMED = 3
Source = Literal["hidden", "embedding", "position", "another-text", "random-embeddings"]
BESIDE: tuple[Source, ...] = ("another-text", "random-embeddings")  # of a row that runs beside the others
Scores = Float[Tensor, "batch head query key"]
Values = Float[Tensor, "batch pos head d_head"]
Visible = Bool[Tensor, "_ _ query key"]  # one row or head stands for all


@dataclass(frozen=True, kw_only=True)
class Width:
    """The sizes of the layer that a plug is made for."""

    d_model: int
    n_heads: int
    d_head: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """What the plugs of one attention are given when they are called.

    Attributes:
        x: What enters the layer, normed ``(batch, pos, d_model)``.
        q, k, v: Of every head ``(batch, pos, head, d_head)``; rotated, where positions are rotary.
    """

    x: Float[Tensor, "batch pos d_model"]
    q: Values
    k: Values
    v: Values


@dataclass(frozen=True, kw_only=True)
class Plugs:
    """How one layer attends.

    Attributes:
        source: What queries and keys are made of: the hidden state; the token's embedding; its position alone; or
            the hidden state of one row that is the same for all, a text or random embeddings, which runs through the
            same layers.
        score: ``(content) -> scores``; None where the mix needs none.
        mask: ``(query, key)`` or ``(batch, head, query, key)``, true where a query may look; or a function
            ``(scores, visible, content)`` that returns one. None: all that is visible.
        mix: ``(scores, allowed, content) -> pattern``.
        gate: ``(content, z) -> factor of z``.
        beside: ``(content) -> what is added to z``, such as a convolution of the values.
        memory: ``(content) -> z``, in place of score, mask and mix: rules that are not linear in the values, which
            have no pattern.
        unit: Queries and keys are scaled to length 1.
    """

    source: Source = "hidden"
    score: Callable[..., Any] | None = None
    mask: Bool[Tensor, "..."] | Callable[..., Any] | None = None
    mix: Callable[..., Any] | None = None
    gate: Callable[..., Any] | None = None
    beside: Callable[..., Any] | None = None
    memory: Callable[..., Any] | None = None
    unit: bool = False

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            raise OptionError(f"source is {self.source!r}", hint=f"one of {', '.join(get_args(Source))}")
        if (self.mix is None) == (self.memory is None):
            raise OptionError("an attention has a mix or a memory, and not both", hint="Plugs(mix=softmax)")


def made(plug: Any, width: Width) -> Any:
    """Return a plug for a layer of this width: a class of module is made, a function is itself."""
    kind = plug.func if isinstance(plug, partial) else plug
    return plug(width) if isinstance(kind, type) and issubclass(kind, nn.Module) else plug


def described(value: Any) -> Any:
    """Say what a plug is in JSON values: the name of its function and its options; tensors by shape and sum.

    Example:
        >>> described(partial(int, base=2))
        {'int': {'base': 2}}
    """
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape), "entries": int(value.sum())}
    if isinstance(value, partial):
        return {value.func.__name__: {name: described(of) for name, of in value.keywords.items()}}
    return value.__name__ if callable(value) else value


def check_allowed(allowed: Bool[Tensor, "*shape"], visible: Bool[Tensor, "query key"]) -> Visible:
    """Return a mask that fits what is visible, once it is checked.

    Raises:
        OptionError: for another size; for an entry that a causal model must not see, with its position; for a query
            without any key.
    """
    n, m = visible.shape
    if allowed.ndim not in (2, 4) or allowed.shape[-2:] != visible.shape:
        raise OptionError(
            f"the mask is {tuple(allowed.shape)}; (query, key) is ({n}, {m}) here",
            hint=f"give a mask of shape ({n}, {m}), or (row, head, {n}, {m})",
        )
    allowed = allowed.to(visible.device) if allowed.ndim == 4 else allowed.to(visible.device)[None, None]
    leaks = (allowed & ~visible).flatten(0, 1).any(0).nonzero()
    if len(leaks):
        named = ", ".join(f"query {query} would see key {key}" for query, key in leaks[:LEAKS_NAMED].tolist())
        more = "" if len(leaks) <= LEAKS_NAMED else f" and {len(leaks) - LEAKS_NAMED} more"
        raise OptionError(
            f"the mask leaks: {named}{more} ({len(leaks)} such entries), and the model is causal",
            hint="mask & torch.ones(n, n, dtype=torch.bool).tril(), or a model with causal=False",
        )
    empty = (~allowed.any(-1)).flatten(0, 1).any(0).nonzero()
    if len(empty):
        raise OptionError(
            f"the mask leaves query {int(empty[0])} without any key", hint="let every token see itself"
        )
    return allowed


def visible_to(n: int, *, causal: bool, device: Any = None) -> Bool[Tensor, "query key"]:
    """Return what queries may see at most: everything, or what does not come after them."""
    whole = torch.ones(n, n, dtype=torch.bool, device=device)
    return whole.tril() if causal else whole
