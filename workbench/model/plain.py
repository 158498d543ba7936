"""The forward pass of a native model written out from its definition, as an oracle for the bridge.

It shares no code with TransformerLens: weights by name in, logits out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import TransformerBridgeConfig

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x * torch.sigmoid(x),
    "swish": lambda x: x * torch.sigmoid(x),
    "solu": lambda x: x * x.softmax(-1),
    "solu_ln": lambda x: x * x.softmax(-1),
}


@torch.no_grad()
def native_forward(
    weights: Mapping[str, Tensor], config: TransformerBridgeConfig, tokens: Int[Tensor, "pair pos"]
) -> Float[Tensor, "pair pos d_vocab_out"]:
    """Return logits of a native model: blocks `x += attn(norm(x)); x += mlp(norm(x))`, then norm and unembed."""
    length = tokens.shape[1]
    x = weights["embed.weight"][tokens]
    if "pos_embed.weight" in weights:
        x = x + weights["pos_embed.weight"][:length]
    for layer in range(config.n_layers):
        part = _under(weights, f"blocks.{layer}.")
        x = x + _attention(_under(part, "attn."), config, _norm(_under(part, "ln1."), config, x))
        if not config.attn_only:
            x = x + _mlp(_under(part, "mlp."), config, _norm(_under(part, "ln2."), config, x))
    x = _norm(_under(weights, "ln_final."), config, x, final=True)
    logits = x @ weights["unembed.weight"].T
    if "unembed.bias" in weights:
        logits = logits + weights["unembed.bias"]
    return _softcap(logits, config.output_logits_soft_cap)


def _attention(
    part: Mapping[str, Tensor], config: TransformerBridgeConfig, x: Float[Tensor, "pair pos d_model"]
) -> Float[Tensor, "pair pos d_model"]:
    n_kv = config.n_key_value_heads or config.n_heads
    q, k, v = (
        (x @ part[f"{name}.weight"].T + part[f"{name}.bias"]).unflatten(-1, (n, config.d_head))
        for name, n in (("q", config.n_heads), ("k", n_kv), ("v", n_kv))
    )
    if config.positional_embedding_type == "rotary":
        q, k = _rotate(q, config), _rotate(k, config)
    group = torch.arange(config.n_heads, device=x.device) // (config.n_heads // n_kv)  # KV head of each head
    k, v = k[:, :, group], v[:, :, group]
    scale = config.attn_scale if config.use_attn_scale and config.attn_scale > 0 else config.d_head**0.5
    scores = _softcap(torch.einsum("bqhd,bkhd->bhqk", q, k) / scale, config.attn_scores_soft_cap)
    if config.attention_dir == "causal":
        length = x.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    z = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
    return z.flatten(-2) @ part["o.weight"].T + part["o.bias"]


def _rotate(x: Float[Tensor, "pair pos head d_head"], config: TransformerBridgeConfig) -> Tensor:
    """Rotary positions, adjacent pairs: (x0, x1) turned by position * base**(-2i/d)."""
    d = config.rotary_dim or config.d_head
    frequency = config.rotary_base ** (-torch.arange(0, d, 2, device=x.device) / d)
    angle = torch.outer(torch.arange(x.shape[1], device=x.device), frequency)[None, :, None]
    pairs = torch.view_as_complex(x[..., :d].float().unflatten(-1, (-1, 2)).contiguous())
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    return torch.cat([turned.to(x.dtype), x[..., d:]], dim=-1)


def _mlp(
    part: Mapping[str, Tensor], config: TransformerBridgeConfig, x: Float[Tensor, "pair pos d_model"]
) -> Float[Tensor, "pair pos d_model"]:
    act = ACTIVATIONS[(config.act_fn or ("silu" if config.gated_mlp else "gelu")).lower()]
    if config.gated_mlp:
        hidden = act(x @ part["gate.weight"].T) * (x @ part["in.weight"].T)
        return hidden @ part["out.weight"].T
    hidden = act(x @ part["in.weight"].T + part["in.bias"])
    if "ln.weight" in part:
        hidden = F.layer_norm(hidden, hidden.shape[-1:], part["ln.weight"], part["ln.bias"], config.eps)
    return hidden @ part["out.weight"].T + part["out.bias"]


def _norm(
    part: Mapping[str, Tensor], config: TransformerBridgeConfig, x: Tensor, *, final: bool = False
) -> Tensor:
    kind = (config.normalization_type or "").upper()
    if not kind and not (final and config.final_rms):
        return x
    rms = kind.startswith("RMS") or (final and config.final_rms)
    centred = x if rms else x - x.mean(-1, keepdim=True)
    x = centred / (centred.pow(2).mean(-1, keepdim=True) + config.eps).sqrt()
    if "weight" in part:
        x = x * part["weight"]
    return x + part["bias"] if "bias" in part else x


def _softcap(x: Tensor, cap: float) -> Tensor:
    return cap * torch.tanh(x / cap) if cap > 0 else x


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
