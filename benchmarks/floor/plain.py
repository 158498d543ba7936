"""A GPT-2 or a Llama as plain functions of its weights: what the floor is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2048  # tokens in one matrix product


@dataclass(frozen=True, kw_only=True, eq=False)
class Plain:
    """Weights by layer; every matrix as ``(in, out)``. ``rotary`` holds cosines and sines by position."""

    kind: str
    layers: tuple[dict[str, Tensor], ...]
    n_heads: int
    n_kv: int
    d_head: int
    eps: float
    act: str
    embed: Tensor
    places: Tensor | None
    end: tuple[Tensor, ...]
    unembed: Tensor
    rotary: tuple[Tensor, Tensor] | None

    def start(self, ids: Tensor) -> Tensor:
        """What enters the first layer."""
        x = self.embed[ids]
        return x if self.places is None else x + self.places[: ids.shape[1]]

    def norm(self, x: Tensor, weight: tuple[Tensor, ...]) -> Tensor:
        if self.kind == "gpt2":
            return F.layer_norm(x, x.shape[-1:], *weight, self.eps)
        return F.rms_norm(x, x.shape[-1:], weight[0], self.eps)

    def rotate(self, x: Tensor, first: int) -> Tensor:
        if self.rotary is None:
            return x
        cos, sin = (t[first : first + x.shape[1], None] for t in self.rotary)
        a, b = x.chunk(2, -1)
        out, n = x * cos, a.shape[-1]
        out[..., :n].addcmul_(b, sin[..., :n], value=-1)
        out[..., n:].addcmul_(a, sin[..., n:])
        return out

    def attend(self, q: Tensor, k: Tensor, v: Tensor, first: int) -> Tensor:
        """Causal attention of queries at the positions from ``first`` on: ``(row, pos, head * d_head)``."""
        length, shared = q.shape[1], self.n_heads // self.n_kv
        mask = (
            torch.full((k.shape[1], k.shape[1]), -torch.inf).triu(1)[first : first + length].repeat(shared, 1)
        )
        q = q.unflatten(2, (self.n_kv, shared)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # heads that share keys
        out = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        return out.unflatten(2, (shared, length)).permute(0, 3, 1, 2, 4).flatten(2)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.d_head))

    def keys_values(self, layer: int, normed: Tensor, first: int) -> tuple[Tensor, Tensor]:
        w, at = self.layers[layer], self.n_heads * self.d_head
        kv = _affine(normed, w["qkv"][:, at:], None if w["qkv_b"] is None else w["qkv_b"][at:])
        k, v = kv.chunk(2, -1)
        return self.rotate(self.split(k), first), self.split(v)

    def queries(self, layer: int, normed: Tensor, first: int) -> Tensor:
        w, at = self.layers[layer], self.n_heads * self.d_head
        q = _affine(normed, w["qkv"][:, :at], None if w["qkv_b"] is None else w["qkv_b"][:at])
        return self.rotate(self.split(q), first)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        w = self.layers[layer]
        h = _affine(self.norm(x, w["ln2"]), w["in"], w["in_b"])
        if self.kind == "llama":
            gate, up = h.chunk(2, -1)
            h = F.silu(gate) * up
        else:
            h = F.relu(h) if self.act == "relu" else F.gelu(h, approximate="tanh")
        return _affine(h, w["out"], w["out_b"])

    def layer(
        self,
        layer: int,
        x: Tensor,
        *,
        first: int = 0,
        before: tuple[Tensor, Tensor] | None = None,
        last: bool = False,
        see: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The residual stream after a layer, at the positions from ``first`` on or at the last one alone."""
        w = self.layers[layer]
        normed = self.norm(x, w["ln1"])
        k, v = self.keys_values(layer, normed, first)
        if before is not None:
            k, v = torch.cat([before[0], k], 1), torch.cat([before[1], v], 1)
        if last:
            x, normed, first = x[:, -1:], normed[:, -1:], k.shape[1] - 1
        q = self.queries(layer, normed, first)
        z = self.attend(q, k, v, first)
        mid = x + _affine(z, w["o"], w["o_b"])
        if see is not None:
            see.update(z=self.split(z), mid=mid, q=q, k=k, v=v)
        return mid + self.mlp(layer, mid)

    def difference(self, x: Tensor, answers: Tensor) -> Tensor:
        """Logit of the first minus the second answer, from what leaves the last layer at the last position."""
        x = self.norm(x, self.end)
        return (x * (self.unembed[answers[:, 0]] - self.unembed[answers[:, 1]])).sum(-1)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return (
        x @ weight if bias is None else torch.addmm(bias, x.flatten(0, -2), weight).unflatten(0, x.shape[:-1])
    )


def gpt2(config: Any, state: Mapping[str, Tensor]) -> Plain:
    """From a Hugging Face GPT-2: its configuration and state dict, before a bridge is put around it."""
    layers = []
    for n in range(config.n_layer):
        at = f"transformer.h.{n}."
        layers.append(
            {
                "ln1": (state[at + "ln_1.weight"], state[at + "ln_1.bias"]),
                "ln2": (state[at + "ln_2.weight"], state[at + "ln_2.bias"]),
                "qkv": state[at + "attn.c_attn.weight"],
                "qkv_b": state[at + "attn.c_attn.bias"],
                "o": state[at + "attn.c_proj.weight"],
                "o_b": state[at + "attn.c_proj.bias"],
                "in": state[at + "mlp.c_fc.weight"],
                "in_b": state[at + "mlp.c_fc.bias"],
                "out": state[at + "mlp.c_proj.weight"],
                "out_b": state[at + "mlp.c_proj.bias"],
            }
        )
    return Plain(
        kind="gpt2",
        layers=tuple(layers),
        n_heads=config.n_head,
        n_kv=config.n_head,
        d_head=config.n_embd // config.n_head,
        eps=config.layer_norm_epsilon,
        act=config.activation_function,
        embed=state["transformer.wte.weight"],
        places=state["transformer.wpe.weight"],
        end=(state["transformer.ln_f.weight"], state["transformer.ln_f.bias"]),
        unembed=state["lm_head.weight"],
        rotary=None,
    )


def llama(config: Any, state: Mapping[str, Tensor], n_ctx: int = 64) -> Plain:
    """From a Hugging Face Llama with grouped queries, default rotary positions and no biases."""
    layers, none = [], {"qkv_b": None, "o_b": None, "in_b": None, "out_b": None}
    for n in range(config.num_hidden_layers):
        w = {k.removeprefix(f"model.layers.{n}."): v for k, v in state.items() if f"model.layers.{n}." in k}
        layers.append(
            {
                "ln1": (w["input_layernorm.weight"],),
                "ln2": (w["post_attention_layernorm.weight"],),
                "qkv": torch.cat([w[f"self_attn.{s}_proj.weight"] for s in "qkv"]).T,
                "o": w["self_attn.o_proj.weight"].T,
                "in": torch.cat([w["mlp.gate_proj.weight"], w["mlp.up_proj.weight"]]).T,
                "out": w["mlp.down_proj.weight"].T,
                **none,
            }
        )
    d_head = config.hidden_size // config.num_attention_heads
    speeds = config.rope_parameters["rope_theta"] ** (-torch.arange(0, d_head, 2) / d_head)
    angles = torch.outer(torch.arange(n_ctx), speeds).repeat(1, 2)
    return Plain(
        kind="llama",
        layers=tuple(layers),
        n_heads=config.num_attention_heads,
        n_kv=config.num_key_value_heads,
        d_head=d_head,
        eps=config.rms_norm_eps,
        act="silu",
        embed=state["model.embed_tokens.weight"],
        places=None,
        end=(state["model.norm.weight"],),
        unembed=state["lm_head.weight"],
        rotary=(angles.cos(), angles.sin()),
    )
