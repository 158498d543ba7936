"""GPT-2 as plain blocks, from its weights alone: neither transformers' classes nor TransformerLens are needed.

Each function is the one that the bridge's own layer computes, on a tensor of the same layout, so that results are equal
to the last bit (``tests/integration/test_sealed.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from workbench.model.blocks import Block, Blocks, Function
from workbench.model.unhooked import in_one_pass

_ACTIVATIONS = {"relu": "ReLU", "gelu_new": "NewGELUActivation", "gelu": "GELUActivation"}


class PlainGPT2:
    """The layers, the first and the last step of a GPT-2 whose configuration has nothing unusual.

    Attributes:
        blocks: Its layers; the same at every length of prompts.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        self._weights = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
        self._eps, self.n_heads = float(config["layer_norm_epsilon"]), int(config["n_head"])
        self.d_model = int(config["n_embd"])
        act = in_one_pass(_ACTIVATIONS[config["activation_function"]])
        self._unembed = weights.get("lm_head.weight", self._weights["wte.weight"])
        self._no_bias = self._unembed.new_zeros(len(self._unembed))
        self.blocks = Blocks(
            layers=tuple(self._block(layer, act) for layer in range(int(config["n_layer"]))),
            n_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            d_head=self.d_model // self.n_heads,
            parallel=False,
            embed=self.embed,
            ends_plainly=True,
            by_column=True,
            d_out=len(self._unembed),
        )

    @classmethod
    def from_directory(cls, directory: Path, config: Mapping[str, Any]) -> PlainGPT2:
        """Return the model of a directory with ``model.safetensors``."""
        return cls(load_file(directory / "model.safetensors"), config)

    def output_matrix(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """Return ``W_O`` of a layer."""
        return self._weights[f"h.{layer}.attn.c_proj.weight"].unflatten(0, (self.n_heads, -1))

    def end(
        self, hidden: Float[Tensor, "row d_model"], columns: Int[Tensor, " column"] | None = None
    ) -> Float[Tensor, "row d_vocab"]:
        """Return logits of what leaves the last layer: the last norm and the unembedding."""
        weight, bias = self._unembed, self._no_bias
        if columns is not None:
            weight, bias = weight[columns], bias[columns]
        return F.linear(self._norm("ln_f")(hidden), weight, bias)

    def embed(self, ids: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """Return what enters the first layer: the embedding of each token plus that of its place."""
        places = torch.arange(ids.shape[1], device=ids.device)
        return F.embedding(ids, self._weights["wte.weight"]) + F.embedding(
            places, self._weights["wpe.weight"]
        )

    def _block(self, layer: int, act: Function) -> Block:
        own = f"h.{layer}."
        whole, bias = (self._weights[f"{own}attn.c_attn.{name}"] for name in ("weight", "bias"))
        q, k, v = (
            partial(F.linear, weight=weight.T, bias=b)
            for weight, b in zip(whole.split(self.d_model, 1), bias.split(self.d_model), strict=True)
        )
        into = self._projection(f"{own}mlp.c_fc")
        return Block(
            norm=self._norm(f"{own}ln_1"),
            q=q,
            k=k,
            v=v,
            o=self._projection(f"{own}attn.c_proj"),
            head_norms=None,
            mlp_norm=self._norm(f"{own}ln_2"),
            neurons=lambda x: act(into(x)),
            mlp_out=self._projection(f"{own}mlp.c_proj"),
        )

    def _norm(self, name: str) -> Function:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return lambda x: F.layer_norm(x, weight.shape, weight, bias, self._eps)

    def _projection(self, name: str) -> Function:
        """``x @ weight + bias``, as transformers' ``Conv1D`` computes it."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return lambda x: torch.addmm(bias, x.view(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)
