"""Rotary attention made again from un-rotated queries and keys, at positions of one's own choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from workbench.core.errors import ModelError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Heads = Float[Tensor, "row pos head d_head"]
_CHUNK = 1 << 24  # numbers held at once for cosines of position differences


@dataclass(frozen=True, kw_only=True, eq=False)
class Rotary:
    """How a model turns queries and keys.

    Attributes:
        frequencies: Angle per position of each pair of coordinates; the coordinates after them are not turned.
        adjacent: Pairs are (0, 1), (2, 3), ...; else the first half of the coordinates with the second.
        amplitude: Factor on the turned coordinates of q and of k (long-context scaling), squared in the score.
        scale: Factor on the score.
    """

    frequencies: Float[Tensor, " pair"]
    adjacent: bool
    amplitude: float
    scale: float

    def split(self, x: Heads) -> tuple[Tensor, Tensor, Tensor]:
        """Return first and second members of the pairs, and the coordinates that are not turned."""
        n = len(self.frequencies)
        turned, rest = x[..., : 2 * n], x[..., 2 * n :]
        if self.adjacent:
            return turned[..., 0::2], turned[..., 1::2], rest
        return turned[..., :n], turned[..., n:], rest

    def scores(
        self, q: Heads, k: Heads, ahead: Num[Tensor, "#row #head query key"]
    ) -> Float[Tensor, "row head query key"]:
        """Return ``q R(ahead) k``: scores before the softmax when each query stands ``ahead`` positions after each
        key.

        Turning both by their positions depends on the difference alone:
        ``sum_pairs (q1 k1 + q2 k2) cos(ahead f) + (q1 k2 - q2 k1) sin(ahead f)``, plus the rest's product.
        """
        (q1, q2, qr), (k1, k2, kr) = self.split(q), self.split(k)
        out = torch.einsum("bqhe,bkhe->bhqk", qr, kr)
        f, a = self.frequencies.to(q), self.amplitude**2
        size = max(1, _CHUNK // max(1, q.shape[0] * q.shape[2] * k.shape[1] * len(f)))
        parts = []
        for start in range(0, q.shape[1], size):
            rows = slice(start, start + size)
            angle = ahead[:, :, rows, :, None].to(q) * f
            c, s = angle.cos(), angle.sin()
            with_c = torch.einsum("bqhe,bkhe,bhqke->bhqk", q1[:, rows], k1, c)
            with_c += torch.einsum("bqhe,bkhe,bhqke->bhqk", q2[:, rows], k2, c)
            with_s = torch.einsum("bqhe,bkhe,bhqke->bhqk", q1[:, rows], k2, s)
            with_s -= torch.einsum("bqhe,bkhe,bhqke->bhqk", q2[:, rows], k1, s)
            parts.append(with_c + with_s)
        return (out + a * torch.cat(parts, dim=2)) * self.scale


def rotary_of(model: TransformerBridge, layer: int) -> Rotary:
    """Return the rotary embedding of a layer, from the wrapped model's own tables; whether it is right, a run must
    show.

    Raises:
        ModelError: for models whose positions are not rotary: they are added to the embeddings once, and a key
            cannot be given another position at each query.
    """
    original = model.original_model
    tables = [m for m in original.modules() if isinstance(getattr(m, "inv_freq", None), Tensor)]
    if not tables:
        raise ModelError(
            "this model's positions are not rotary: they enter with the embeddings, once for all heads, so keys "
            "cannot be given other positions at each query",
            hint="Llama, Mistral, Qwen2, GPT-NeoX and Phi-3 shapes are rotary; zoo:kv is one",
        )
    attn = model.blocks[layer].attn
    inner = getattr(attn, "original_component", attn)
    own = getattr(getattr(inner, "rotary_emb", None), "inv_freq", None)
    table: Any = getattr(inner, "rotary_emb", tables[0]) if isinstance(own, Tensor) else tables[0]
    scale = getattr(inner, "scaling", None)
    scale = float(scale) if isinstance(scale, float | int) else model.cfg.d_head**-0.5
    kind = getattr(original.config, "model_type", "")
    return Rotary(
        frequencies=table.inv_freq.detach(),
        adjacent=kind in ("cohere", "cohere2", "gptj", "codegen", "glm", "glm4"),
        amplitude=float(getattr(table, "attention_scaling", 1.0)),
        scale=scale,
    )


def own_positions(rotary: Rotary, q: Heads, k: Heads) -> Float[Tensor, "row head query key"]:
    """Return scores with every token where it stands, keys ahead included."""
    at = torch.arange(q.shape[1], device=q.device)
    return rotary.scores(q, k, (at[:, None] - at)[None, None])
