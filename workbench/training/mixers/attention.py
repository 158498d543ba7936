"""One attention with hooks under TransformerLens' names, whose parts are plugged in."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint

from workbench.core.errors import OptionError
from workbench.training.mixers.plugs import BESIDE, Content, Plugs, Source, Values, Width, check_allowed, made

Hidden = Float[Tensor, "batch pos d_model"]


class MixedAttention(nn.Module):
    """Heads that attend as their `Plugs` say; hooks q k v attn_scores pattern z, as TransformerLens names them.

    Args:
        rotary: Queries and keys are turned by their positions.
        shift: Keys read a learned mixture of their token and the one before it.

    Raises:
        OptionError: for rotary positions in heads of odd width.
    """

    score: Any
    mask: Any
    mix: Any
    gate: Any
    beside: Any
    memory: Any
    hook_q: HookPoint
    hook_k: HookPoint
    hook_v: HookPoint
    hook_attn_scores: HookPoint
    hook_pattern: HookPoint
    hook_z: HookPoint

    def __init__(self, width: Width, plugs: Plugs, *, rotary: bool = False, shift: bool = False) -> None:
        super().__init__()
        if rotary and width.d_head % 2:
            raise OptionError(
                f"d_head is {width.d_head}; rotary positions turn pairs of dimensions", hint="an even d_head"
            )
        self.width, self.plugs, self.rotary = width, plugs, rotary
        inner = width.n_heads * width.d_head
        self.q, self.k, self.v = (nn.Linear(width.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, width.d_model, bias=False)
        self.shift = nn.Parameter(torch.full((width.d_model,), 0.5)) if shift else None
        for part in ("score", "mask", "mix", "gate", "beside", "memory"):
            setattr(self, part, made(getattr(plugs, part), width))
        for name in ("q", "k", "v", "attn_scores", "pattern", "z"):
            setattr(self, f"hook_{name}", HookPoint())

    def forward(self, x: Hidden, source: Hidden, visible: Bool[Tensor, "query key"]) -> Hidden:
        """Return what the heads write.

        Args:
            x: The normed hidden state; values are made of it.
            source: What queries and keys are made of.
            visible: What queries may see at most.
        """
        content = self.content(x, source)
        z = self.memory(content) if self.memory is not None else self.attended(content, visible)
        if self.beside is not None:
            z = z + self.beside(content)
        if self.gate is not None:
            z = z * self.gate(content, z)
        return self.o(self.hook_z(z).flatten(2))

    def content(self, x: Hidden, source: Hidden) -> Content:
        """Return queries, keys and values of every head."""
        before = source if self.shift is None else source.lerp(F.pad(source, (0, 0, 1, -1)), self.shift)
        q, k, v = (self._heads(part) for part in (self.q(source), self.k(before), self.v(x)))
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        if self.plugs.unit:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return Content(x=x, q=q, k=k, v=v)

    def attended(self, content: Content, visible: Bool[Tensor, "query key"]) -> Values:
        """Return values mixed by the pattern."""
        scores = None if self.score is None else self.score(content)
        allowed = self.mask(scores, visible, content) if callable(self.mask) else self.mask
        allowed = visible[None, None] if allowed is None else check_allowed(allowed, visible)
        if scores is not None:
            scores = self.hook_attn_scores(scores)
        pattern = self.hook_pattern(self.mix(scores, allowed, content))
        return torch.einsum("bhqk,bkhe->bqhe", pattern, content.v)

    def _heads(self, part: Float[Tensor, "batch pos inner"]) -> Values:
        return part.unflatten(-1, (self.width.n_heads, self.width.d_head))


def rotated(part: Values, *, base: float = 10_000.0) -> Values:
    """Turn pairs of dimensions by angles that grow with the position: products then depend on distances alone."""
    half = part.shape[-1] // 2
    rates = base ** -(torch.arange(half, device=part.device) / half)
    angles = torch.arange(part.shape[1], device=part.device)[:, None] * rates
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
    first, second = part[..., :half], part[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def source_of(kind: Source, x: Hidden, embedding: Hidden, position: Hidden) -> Hidden:
    """Return what queries and keys of a layer are made of; the first row is the fixed one, where there is one."""
    if kind in BESIDE:
        return x[:1].expand_as(x)
    return {"hidden": x, "embedding": embedding, "position": position}[kind]
