"""LLaVA's language model written out, behind transformers' own tower and projector: one pair, one pass, no engine.

Its rows come from a forward pass of transformers with pixels; from there on every reader has its own copy of the
residual stream, so single edges can be edited and differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from tests.seeing import IMAGE, seeing_dir

N_HEADS = 4
Pattern = Callable[[int, Tensor], Tensor]


class PlainLlava:
    """A tiny LLaVA in plain torch, or another one in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        kind = transformers.LlavaForConditionalGeneration
        self.model = kind.from_pretrained(folder or seeing_dir("llava"), attn_implementation="eager").eval()
        self.model.requires_grad_(False)
        text = self.model.model.language_model
        self.layers, self.rotary, self.norm = text.layers, text.rotary_emb, text.norm

    def rows(self, pair, side: int) -> tuple[Tensor, Tensor]:
        """What enters the language model, ``(pos, d_model)``, and the logits at the end, by transformers alone."""
        words = (pair.clean, pair.corrupted)[side].split()
        n = (16 // 8) ** 2
        ids = [0]
        for word in words:
            ids += [IMAGE] * n if word == "w119" else [int(word[1:])]
        seen: list[Tensor] = []
        handle = self.layers[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        pixels = torch.tensor(pair.image[side].pixels)[None]
        logits = self.model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0, -1]
        handle.remove()
        return seen[0][0], logits

    def run(
        self,
        rows: Tensor | Mapping[str, Tensor],
        *,
        ablated: Collection[tuple[str, str]] = (),
        instead: Mapping[str, Tensor] | None = None,
        put: Mapping[str, Tensor] | None = None,
        pattern: Pattern = lambda layer, A: A,
        copies: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at the end, and what every source wrote.

        Args:
            rows: What enters, or what each source before the first layer writes.
            ablated: Edges along which ``instead[source]`` is read.
            put: What a source writes in place of its own.
            pattern: Edit of each layer's patterns, ``(head, query, key)``.
            copies: Takes what each reader reads, to be differentiated at.
        """
        wrote: dict[str, Tensor] = {}

        def write(name: str, value: Tensor) -> None:
            wrote[name] = value if put is None or name not in put else put[name]

        def read(target: str) -> Tensor:
            x = sum(instead[s] if (s, target) in ablated else own for s, own in wrote.items())
            if copies is not None:
                x = copies[target] = x + torch.zeros_like(x).requires_grad_(True)
            return x

        for name, value in ({"input": rows} if isinstance(rows, Tensor) else rows).items():
            write(name, value)
        rows = sum(wrote.values())
        cos, sin = (t[0] for t in self.rotary(rows[None], torch.arange(len(rows))[None]))
        for n, layer in enumerate(self.layers):
            heads = {}
            for h in range(N_HEADS):
                q, k, v = (self._project(layer, slot, h, read(f"a{n}.h{h}<{slot}>")) for slot in "qkv")
                heads[h] = (q * cos + _half(q) * sin), (k * cos + _half(k) * sin), v
            q, k, v = (torch.stack([heads[h][i] for h in range(N_HEADS)]) for i in range(3))
            scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
            future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            z = pattern(n, scores.masked_fill(future, -torch.inf).softmax(-1)) @ v
            width = z.shape[-1]
            for h in range(N_HEADS):
                out = layer.self_attn.o_proj.weight[:, h * width : (h + 1) * width]
                write(f"a{n}.h{h}", z[h] @ out.T)
            mlp = layer.mlp
            x = layer.post_attention_layernorm(read(f"m{n}"))
            write(f"m{n}", mlp.down_proj(F.silu(mlp.gate_proj(x)) * mlp.up_proj(x)))
        return self.model.lm_head(self.norm(read("logits"))[-1]), wrote

    def _project(self, layer, slot: str, head: int, x: Tensor) -> Tensor:
        weight = getattr(layer.self_attn, f"{slot}_proj").weight
        width = weight.shape[0] // N_HEADS
        return layer.input_layernorm(x) @ weight[head * width : (head + 1) * width].T


def _half(x: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat([-right, left], -1)
