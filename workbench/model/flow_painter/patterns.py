"""Patterns of a bare painter while it computes, with their gradients: what training on attention needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

from jaxtyping import Float
from torch import Tensor, nn

from workbench.model.flow_painter.model import PainterAttention, PainterModel

Stack = Literal["cross_attn", "self_attn"]


@contextmanager
def watched_looks(
    model: PainterModel, kept: list[Float[Tensor, "row head query key"]], stack: Stack = "cross_attn"
) -> Iterator[None]:
    """Inside, each pass adds what every layer looks at, in the order of layers; gradients go through.

    Args:
        kept: Is filled with one pattern a layer.
        stack: The attention to words, or that among patches.
    """

    def look(module: nn.Module, given: tuple[Tensor, ...], wrote: Tensor) -> None:
        assert isinstance(module, PainterAttention)
        kept.append(pattern_of(module, *given))

    handles = [attention.register_forward_hook(look) for attention in attentions(model, stack)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def attentions(model: PainterModel, stack: Stack = "self_attn") -> list[PainterAttention]:
    """Return the attention of every layer."""
    return [cast(PainterAttention, getattr(layer, stack)) for layer in model.layers]


def pattern_of(
    attention: PainterAttention,
    hidden: Float[Tensor, "row query d_model"],
    read: Float[Tensor, "row key d_model"],
) -> Float[Tensor, "row head query key"]:
    """Return where each query looks."""
    q, k = (
        x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for x in (attention.q_proj(hidden), attention.k_proj(read))
    )
    return (q @ k.transpose(2, 3) * attention.d_head**-0.5).softmax(-1)
