"""Transformers written out from their weights: forward passes that no hook and no library stands behind.

They are what edits are held against on architectures whose attention pattern no hook can change (OPT, BERT) or
which have no split inputs (native). Every reader gets its own copy of the residual stream, so single edges can
be edited too. One prompt at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.families import family_dir

PatternEdit = Callable[[int, Tensor], Tensor]  # (layer, (head, query, key)) -> the same shape
N_HEADS = 4


@dataclass(frozen=True)
class ByHand:
    """Weights under names of our own and the three things in which these models differ."""

    weights: Mapping[str, Tensor]
    n_layers: int
    embed: Callable[[Tensor], Tensor]
    unembed: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    causal: bool = True
    post_norm: bool = False  # BERT: a norm after each sum, none before the parts
    has_norm: bool = True
    has_mlp: bool = True

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        if not self.has_norm:
            return x
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.pow(2).mean(-1, keepdim=True) + (1e-12 if self.post_norm else 1e-5)).sqrt()
        return centred / scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(
        self, layer: int, reads: Callable[[str, int], Tensor], edit: PatternEdit | None
    ) -> tuple[Tensor, Tensor]:
        """``(pos, head, d_model)`` writes of the heads, and the output bias that belongs to none."""
        slots = {}
        for slot in "qkv":
            matrix, bias = self.weights[f"{layer}.{slot}.weight"], self.weights[f"{layer}.{slot}.bias"]
            width = len(bias) // N_HEADS
            rows = [slice(h * width, (h + 1) * width) for h in range(N_HEADS)]
            slots[slot] = torch.stack(
                [reads(slot, h) @ matrix[rows[h]].T + bias[rows[h]] for h in range(N_HEADS)]
            )
        scores = slots["q"] @ slots["k"].transpose(1, 2) / slots["q"].shape[-1] ** 0.5  # (head, query, key)
        if self.causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
        pattern = scores.softmax(-1)
        pattern = pattern if edit is None else edit(layer, pattern)
        z = pattern @ slots["v"]  # (head, query, d_head)
        out = self.weights[f"{layer}.o.weight"]
        width = out.shape[1] // N_HEADS
        heads = [z[h] @ out[:, h * width : (h + 1) * width].T for h in range(N_HEADS)]
        return torch.stack(heads, 1), self.weights[f"{layer}.o.bias"]

    def run(
        self,
        ids: Tensor,
        *,
        pattern: PatternEdit | None = None,
        ablated: Collection[tuple[str, str]] | Mapping[tuple[str, str], Tensor] = (),
        instead: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Output of one prompt ``(pos, d)`` and what every source wrote.

        Args:
            pattern: Edit of each layer's attention pattern.
            ablated: Edges (source address, target address) along which ``instead[source]`` is read; a mapping
                gives the tokens, ``(pos,)`` bool, at which it is.
        """
        wrote: dict[str, Tensor] = {"input": self.embed(ids)}
        biases: Tensor | float = 0.0

        def read(target: str) -> Tensor:
            parts = [summand(s, target, t) for s, t in wrote.items()]
            return sum(parts) + biases

        def summand(source: str, target: str, own: Tensor) -> Tensor:
            if (source, target) not in ablated:
                return own
            if isinstance(ablated, Mapping):
                return torch.where(ablated[source, target][:, None], instead[source], own)
            return instead[source]

        for layer in range(self.n_layers):
            before = {}
            for slot in "qkv":
                for h in range(N_HEADS):
                    x = read(f"a{layer}.h{h}<{slot}>")
                    before[slot, h] = x if self.post_norm else self.norm(f"{layer}.ln1", x)
            heads, bias = self.attention(layer, lambda slot, h, b=before: b[slot, h], pattern)
            new = {f"a{layer}.h{h}": heads[:, h] for h in range(N_HEADS)}
            if self.post_norm:  # what follows reads the normed sum: no edges here
                wrote = {"input": self.norm(f"{layer}.ln1", read("") + heads.sum(1) + bias)}
                mlp = self.linear(f"{layer}.out", self.activation(self.linear(f"{layer}.in", wrote["input"])))
                wrote = {"input": self.norm(f"{layer}.ln2", wrote["input"] + mlp)}
                continue
            wrote |= new
            biases = biases + bias
            if self.has_mlp:
                x = self.norm(f"{layer}.ln2", read(f"m{layer}"))
                wrote[f"m{layer}"] = self.linear(
                    f"{layer}.out", self.activation(self.linear(f"{layer}.in", x))
                )
        return self.unembed(read("logits")), wrote


def _renamed(
    state: Mapping[str, Tensor], old: str, names: Mapping[str, str], n_layers: int
) -> dict[str, Tensor]:
    """``{"0.q.weight": ...}`` from a checkpoint's own names; ``old`` has the layer as ``{}``."""
    found = {}
    for layer in range(n_layers):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                key = f"{old.format(layer)}.{theirs}.{kind}"
                if key in state:
                    found[f"{layer}.{ours}.{kind}"] = state[key]
    return found


def _load(family: str, dtype: torch.dtype) -> dict[str, Tensor]:
    state = load_file(family_dir(family) / "model.safetensors")
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def opt(dtype: torch.dtype = torch.float32) -> ByHand:
    state = _load("opt", dtype)
    names = {f"{s}": f"self_attn.{s}_proj" for s in "qkv"} | {
        "o": "self_attn.out_proj",
        "in": "fc1",
        "out": "fc2",
    }
    names |= {"ln1": "self_attn_layer_norm", "ln2": "final_layer_norm"}
    weights = _renamed(state, "model.decoder.layers.{}", names, 3)
    weights |= {f"final.{k}": state[f"model.decoder.final_layer_norm.{k}"] for k in ("weight", "bias")}
    tokens, places = state["model.decoder.embed_tokens.weight"], state["model.decoder.embed_positions.weight"]
    model: ByHand = ByHand(
        weights,
        3,
        embed=lambda ids: tokens[ids] + places[2 : 2 + len(ids)],  # OPT's positions start at 2
        unembed=lambda x: model.norm("final", x) @ tokens.T,
        activation=torch.relu,
    )
    return model


def bert(dtype: torch.dtype = torch.float32) -> ByHand:
    state = _load("bert", dtype)
    names = {s: f"attention.self.{long}" for s, long in zip("qkv", ("query", "key", "value"), strict=True)}
    names |= {"o": "attention.output.dense", "ln1": "attention.output.LayerNorm", "ln2": "output.LayerNorm"}
    names |= {"in": "intermediate.dense", "out": "output.dense"}
    weights = _renamed(state, "encoder.layer.{}", names, 3)
    weights |= {f"embed.{k}": state[f"embeddings.LayerNorm.{k}"] for k in ("weight", "bias")}
    words, places, kinds = (
        state[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    )
    model: ByHand = ByHand(
        weights,
        3,
        embed=lambda ids: model.norm("embed", words[ids] + places[: len(ids)] + kinds[0]),
        unembed=lambda x: x,
        activation=F.gelu,
        causal=False,
        post_norm=True,
    )
    return model


def native(name: str, dtype: torch.dtype = torch.float32) -> ByHand:
    """``native`` (attention only, no norm) or ``native-ln``."""
    state = _load(name, dtype)
    names = {s: f"attn.{s}" for s in "qkvo"} | {"ln1": "ln1", "ln2": "ln2", "in": "mlp.in", "out": "mlp.out"}
    weights = _renamed(state, "blocks.{}", names, 2)
    weights |= {f"final.{k}": state[f"ln_final.{k}"] for k in ("weight", "bias") if name == "native-ln"}
    model: ByHand = ByHand(
        weights,
        2,
        embed=lambda ids: state["embed.weight"][ids] + state["pos_embed.weight"][: len(ids)],
        unembed=lambda x: model.norm("final", x) @ state["unembed.weight"].T + state["unembed.bias"],
        activation=partial(F.gelu, approximate="tanh"),
        has_norm=name == "native-ln",
        has_mlp=name == "native-ln",
    )
    return model


MODELS = {
    "opt": opt,
    "bert": bert,
    "native": partial(native, "native"),
    "native-ln": partial(native, "native-ln"),
}
