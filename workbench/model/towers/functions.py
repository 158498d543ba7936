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
        return self.after_attention(x + self.add(z.transpose(1, 2).flatten(2)))

    def after_attention(self, mid: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """Compute what leaves the layer from the stream behind its attention."""
        return mid + self.written(mid)

    def written(self, mid: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """Compute what the MLP adds to the stream behind attention."""
        return self.mlp(self.mlp_norm(mid))


def layers_of(blocks: Sequence[Any]) -> tuple[TowerLayer, ...] | str:
    """Return the layers of a tower as functions, or why there are none.

    Args:
        blocks: Hook points of its layers, as ``TowerBlock`` has them.
    """
    made = []
    for block in blocks:
        if block.packing is not None:
            return "patches of several pictures stand in one row"
        layer, attn = block.layer, block.attn
        parts = [part(layer, name) for name in ("ln1", "ln2", "mlp")]
        if any(found is None for found in parts):
            return "a layer has no two norms and one MLP"
        norm, mlp_norm, mlp = (found.forward for found in parts if found is not None)
        own = attn.original_component
        scale = next((s for n in ("scaling", "scale") if isinstance(s := getattr(own, n, None), float)), None)
        made.append(
            TowerLayer(
                norm=norm,
                mlp_norm=mlp_norm,
                q=_projection(attn, "q"),
                k=_projection(attn, "k"),
                v=_projection(attn, "v"),
                add=_scaled(_linear(part(own, "o")), attn.gain),
                mlp=_scaled(mlp, _gain(layer, block)),
                d_head=attn.d_head,
                scale=attn.d_head**-0.5 if scale is None else scale,
            )
        )
    return tuple(made)


def _projection(attn: Any, slot: str) -> Function:
    """Queries, keys or values, also where one matrix makes all three."""
    weight, bias = attn.of_slot(slot, "weight"), attn.of_slot(slot, "bias")
    return lambda x: F.linear(x, weight, bias)


def _linear(module: Any) -> Function:
    return lambda x: F.linear(x, module.weight, module.bias)


def _gain(layer: nn.Module, block: Any) -> Tensor | None:
    """What multiplies the output of an MLP before it is added to the stream."""
    scale = part(layer, "after_mlp")
    return getattr(layer, "lambda_2", None) if scale is None else next(scale.parameters())


def _scaled(function: Function, gain: Tensor | None) -> Function:
    return function if gain is None else lambda x: function(x) * gain
