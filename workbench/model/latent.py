"""Attention with latent keys and values (DeepSeek's MLA): TransformerLens shows its heads otherwise than elsewhere.

Its hooks of q, k and v have heads before positions, so an edit of head 2 was one of position 2. Its head output is cut
by the size of rotated keys, so a head was a part of another one. Here they are as on every other attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformer_lens.conversion_utils.conversion_steps.base_tensor_conversion import BaseTensorConversion

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class _PositionsFirst(BaseTensorConversion):
    """``[row, head, pos, d_head]``, as attention has it, to ``[row, pos, head, d_head]``, as hooks have it."""

    splits_attention_heads = True

    def handle_conversion(self, input_value: Tensor, *full_context: Any) -> Tensor:
        return input_value.transpose(1, 2)

    def revert(self, input_value: Tensor, *full_context: Any) -> Tensor:
        return input_value.transpose(1, 2)


def set_axes(bridge: TransformerBridge) -> None:
    """Give the hooks of latent attention the axes that all others have; other models stay as they are."""
    for block in getattr(bridge, "blocks", ()):
        attn = dict(block.named_children()).get("attn")
        if attn is None or not hasattr(attn, "hook_kv_latent"):
            continue
        for slot in "qkv":
            point = getattr(attn, f"hook_{slot}")
            point.hook_conversion, point.pos_dim = _PositionsFirst(), None
        split, n_heads = attn.o.hook_in.hook_conversion, bridge.cfg.n_heads
        split.n_heads, split.d_head = n_heads, attn.o.original_component.in_features // n_heads
