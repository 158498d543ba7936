"""One attention function for the models of transformers: eager attention with a hook point at every step.

transformers looks its attention up by name (`config._attn_implementation`). Ours is registered there, so a model whose
attention goes through that registry shows its scores and patterns, and edits of them reach the output.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

NAME = "workbench_hooks"
POINTS = "_workbench_points"  # attribute of an attention module: where its hook points are


class Points(Protocol):
    """The hook points of one attention, each a function of a tensor in TransformerLens' layout."""

    def read(self, slot: str, heads: Float[Tensor, "row head pos d_head"]) -> Tensor: ...
    def scores(self, scores: Float[Tensor, "row head query key"]) -> Tensor: ...
    def pattern(self, pattern: Float[Tensor, "row head query key"]) -> Tensor: ...
    def output(self, z: Float[Tensor, "row pos head d_head"]) -> Tensor: ...


class _Nothing:
    """Hook points of an attention that is not looked at."""

    def read(self, slot: str, heads: Tensor) -> Tensor:
        return heads

    def scores(self, scores: Tensor) -> Tensor:
        return scores

    pattern = output = scores


def hooked_attention(
    module: nn.Module,
    query: Float[Tensor, "packed head patch d_head"],
    key: Float[Tensor, "packed group key_patch d_head"],
    value: Float[Tensor, "packed group key_patch d_head"],
    attention_mask: Float[Tensor, "..."] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: Float[Tensor, "..."] | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "packed patch head d_head"], Float[Tensor, "row head query key"]]:
    """Attend as transformers' eager attention does, to the bit, with a hook point at each step.

    Returns:
        What the heads write before the output projection, and the attention pattern.
    """
    points: Points = vars(module).get(POINTS, _Nothing())
    shape, packing = query.shape, getattr(points, "packing", None)
    if packing is not None and packing.rows:
        attention_mask = packing.mask(shape, attention_mask)
        query, key, value = (packing.heads(each) for each in (query, key, value))
    query, key, value = (points.read(s, t) for s, t in zip("qkv", (query, key, value), strict=True))
    groups = query.shape[1] // key.shape[1]
    key, value = (t if groups == 1 else t.repeat_interleave(groups, dim=1) for t in (key, value))
    scores = torch.matmul(query, key.transpose(2, 3)) * (scaling or query.shape[-1] ** -0.5)
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    scores = scores if position_bias is None else scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]]
    wide = torch.float32 if scores.dtype in (torch.float16, torch.bfloat16) else scores.dtype
    pattern = points.scores(scores).softmax(dim=-1, dtype=wide).to(query.dtype)
    pattern = points.pattern(nn.functional.dropout(pattern, p=dropout, training=module.training))
    z = torch.matmul(pattern, value).transpose(1, 2).contiguous()
    z = points.output(z)
    return z.reshape(shape[0], shape[2], *z.shape[2:]), pattern


AttentionInterface.register(NAME, hooked_attention)
AttentionMaskInterface.register(NAME, eager_mask)
