"""The layers of a tower as functions of tensors: no hooks, and each at the positions that are read alone.

Whether they are the model is measured where they are used (``workbench/engine/restarted_tower.py``), never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.model.towers.parts import part
from workbench.model.unhooked import in_place

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TowerLayer:
    """One layer: two norms, the projections of its attention, and what its MLP adds to the stream.

    Attributes:
        add: What the output projection makes of the heads, as it is added to the stream.
        scale: What attention scores are multiplied by.
    """

    norm: Function
    mlp_norm: Function
    q: Function
    k: Function
    v: Function
    add: Function
    mlp: Function
    d_head: int
    scale: float

    def run(
        self,
        x: Float[Tensor, "row pos d_model"],
        mask: Float[Tensor, "#row 1 pos pos"] | None = None,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "row out d_model"]:
        """Compute what leaves the layer; with ``read`` at these positions alone, keys and values everywhere."""
        near = normed = self.norm(x)
        if read is not None:
            x, near = x[:, read], normed[:, read]
            mask = mask if mask is None else mask[:, :, read]
        q, k, v = (
            project(of).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
            for project, of in ((self.q, near), (self.k, normed), (self.v, normed))
        )
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.after_attention(self.add(z.transpose(1, 2).flatten(2)).add_(x))

    def after_attention(self, mid: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """Compute what leaves the layer from the stream behind its attention."""
        return self.written(mid).add_(mid)

    def written(self, mid: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """Compute what the MLP adds to the stream behind attention."""
        return self.mlp(self.mlp_norm(mid))


def layers_of(blocks: Sequence[Any], d_head: int) -> tuple[TowerLayer, ...] | str:
    """Return the layers of a tower as functions, or why there are none.

    Args:
        blocks: Hook points of its layers: as ``TowerBlock`` has them, or TransformerLens' own.
    """
    made = []
    for block in blocks:
        if getattr(block, "packing", None) is not None:
            return "patches of several pictures stand in one row"
        layer, own = block.original_component, block.attn.original_component
        norm, mlp_norm, mlp = (_plain(part(layer, name)) for name in ("ln1", "ln2", "mlp"))
        if norm is None or mlp_norm is None or mlp is None:
            return "a layer has no two norms and one MLP"
        q, k, v, o = (_projection(own, slot) for slot in "qkvo")
        if q is None or k is None or v is None or o is None:
            return "projections are not there one by one"
        scale = next((s for n in ("scaling", "scale") if isinstance(s := getattr(own, n, None), float)), None)
        made.append(
            TowerLayer(
                norm=norm.forward,
                mlp_norm=mlp_norm.forward,
                q=q,
                k=k,
                v=v,
                add=_scaled(o, getattr(block.attn, "gain", None)),
                mlp=_scaled(_mlp(mlp), _gain(layer)),
                d_head=d_head,
                scale=d_head**-0.5 if scale is None else scale,
            )
        )
    return tuple(made)


def _plain(module: Any) -> nn.Module | None:
    """The wrapped module itself: no hooks of a bridge."""
    return getattr(module, "original_component", module)


def _projection(attn: nn.Module, slot: str) -> Function | None:
    """Queries, keys, values or the output, also where one matrix makes the first three."""
    if isinstance(own := _plain(part(attn, slot)), nn.Linear):
        return _linear(own.weight, own.bias)
    whole = _plain(part(attn, "qkv"))
    if slot == "o" or not isinstance(whole, nn.Linear):
        return None
    at = "qkv".index(slot)
    return _linear(whole.weight.chunk(3)[at], None if whole.bias is None else whole.bias.chunk(3)[at])


def _linear(weight: Tensor, bias: Tensor | None) -> Function:
    return lambda x: F.linear(x, weight, bias)


def _mlp(module: nn.Module) -> Function:
    """An MLP of an activation between two projections, in its argument's place; any other one as it is."""
    into, out = (_plain(part(module, name)) for name in ("into", "out"))
    others = [child for child in module.children() if _plain(child) not in (into, out)]
    if len(others) != 1 or not isinstance(into, nn.Linear) or not isinstance(out, nn.Linear):
        return module.forward
    first, last = (_linear(own.weight, own.bias) for own in (into, out))
    act = in_place(others[0])
    return lambda x: last(act(first(x)))


def _gain(layer: nn.Module) -> Tensor | None:
    """What multiplies the output of an MLP before it is added to the stream."""
    scale = part(layer, "after_mlp")
    return getattr(layer, "lambda_2", None) if scale is None else next(scale.parameters())


def _scaled(function: Function, gain: Tensor | None) -> Function:
    return function if gain is None else lambda x: function(x) * gain
