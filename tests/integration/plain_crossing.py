"""A LLaVA with its CLIP tower written out: every reader of both has its own copy, on transformers' own weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tests.integration.plain_llava import N_HEADS, PlainLlava

Edge = tuple[str, str]


class PlainCrossing(PlainLlava):
    """A tower, what is behind it, and the language model: one picture, one pass."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.vision = getattr(self.model.model.vision_tower, "vision_model", self.model.model.vision_tower)
        layer = (
            self.model.config.vision_feature_layer
        )  # of hidden states, the first of which enters the layers
        n = len(self.vision.encoder.layers) + 1 + layer if layer < 0 else layer
        self.read_layers = list(self.vision.encoder.layers)[:n]

    @torch.no_grad()
    def entering(self, ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What enters the tower's first layer, ``(place, d)``, and the words, zero where the picture is."""
        text, token = self.model.model.language_model, self.model.config.image_token_id
        self.where = ids == token
        patches = self.vision.pre_layrnorm(self.vision.embeddings(pixels[None]))[0]
        return patches, torch.where(self.where[:, None], 0.0, text.embed_tokens(ids))

    def see(
        self,
        entering: tuple[Tensor, Tensor],
        *,
        ablated: Collection[Edge] = (),
        instead: Mapping[str, Tensor] | None = None,
        copies: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at the end, and what every source of tower and language model wrote; arguments as in ``run``."""
        patches, words = entering
        wrote, biases = {"vision:embed": patches}, torch.zeros_like(patches)

        def read(target: str) -> Tensor:
            x = biases + sum(instead[s] if (s, target) in ablated else own for s, own in wrote.items())
            if copies is not None:
                x = copies[target] = x + torch.zeros_like(x).requires_grad_(True)
            return x

        for n, layer in enumerate(self.read_layers):
            attn, found = layer.self_attn, {}
            width = patches.shape[1] // N_HEADS
            for h in range(N_HEADS):
                part = slice(h * width, (h + 1) * width)
                q, k, v = (
                    layer.layer_norm1(read(f"vision:a{n}.h{h}<{slot}>")) @ linear.weight[part].T
                    + linear.bias[part]
                    for slot, linear in zip("qkv", (attn.q_proj, attn.k_proj, attn.v_proj), strict=True)
                )
                z = (q @ k.T / width**0.5).softmax(-1) @ v
                found[f"vision:a{n}.h{h}"] = z @ attn.out_proj.weight[:, part].T
            wrote |= found
            biases = biases + attn.out_proj.bias
            wrote[f"vision:m{n}"] = layer.mlp(layer.layer_norm2(read(f"vision:m{n}")))
        patches = read("projector")
        patches = patches[1:] if self.model.config.vision_feature_select_strategy == "default" else patches
        rows = torch.zeros_like(words)
        rows[self.where] = self.model.model.multi_modal_projector(patches)
        logits, spoken = self.run(
            {"input": words, "projector": rows}, ablated=ablated, instead=instead, copies=copies
        )
        return logits, wrote | spoken
