"""A ViT classifier written out from its weights, one picture at a time: every reader has its own copy of the stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.towers import build_tower

N_HEADS = 4
Pattern = Callable[[int, Tensor], Tensor]


class PlainVit:
    """The tiny ViT of ``tests.towers`` in plain torch."""

    def __init__(self) -> None:
        self.model = build_tower("vit").requires_grad_(False)
        self.layers = self.model.vit.layers

    def rows(self, pixels: Tensor) -> Tensor:
        """What enters the first layer, ``(pos, d_model)``."""
        return self.model.vit.embeddings(pixels[None])[0]

    def run(
        self,
        rows: Tensor,
        *,
        ablated: Collection[tuple[str, str]] = (),
        instead: Mapping[str, Tensor] | None = None,
        put: Mapping[str, tuple[list[int], Tensor]] | None = None,
        pattern: Pattern = lambda layer, A: A,
        copies: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores of the classes, and what every source wrote.

        Args:
            ablated: Edges along which ``instead[source]`` is read.
            put: What a source writes at some positions in place of its own.
            pattern: Edit of each layer's patterns, ``(head, query, key)``.
            copies: Takes what each reader reads, to be differentiated at.
        """
        wrote: dict[str, Tensor] = {}
        biases: Tensor | float = 0.0

        def write(name: str, value: Tensor) -> None:
            if put is not None and name in put:
                at, new = put[name]
                value = value.clone()
                value[at] = new[at]
            wrote[name] = value

        def read(target: str) -> Tensor:
            x = sum(instead[s] if (s, target) in ablated else own for s, own in wrote.items()) + biases
            if copies is not None:
                x = copies[target] = x + torch.zeros_like(x).requires_grad_(True)
            return x

        write("input", rows)
        for n, layer in enumerate(self.layers):
            attn, parts = layer.attention, []
            for slot in "qkv":
                project = getattr(attn, f"{slot}_proj")
                width = project.weight.shape[0] // N_HEADS
                own = [slice(h * width, (h + 1) * width) for h in range(N_HEADS)]
                normed = [layer.layernorm_before(read(f"a{n}.h{h}<{slot}>")) for h in range(N_HEADS)]
                made = [x @ project.weight[s].T + project.bias[s] for x, s in zip(normed, own, strict=True)]
                parts.append(torch.stack(made))
            q, k, v = parts
            z = pattern(n, (q @ k.transpose(1, 2) / width**0.5).softmax(-1)) @ v
            for h in range(N_HEADS):
                write(f"a{n}.h{h}", z[h] @ attn.o_proj.weight[:, own[h]].T)
            biases = biases + attn.o_proj.bias
            write(f"m{n}", layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layernorm_after(read(f"m{n}"))))))
        return self.model.classifier(self.model.vit.layernorm(read("logits"))[0]), wrote
