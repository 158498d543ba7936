"""Taking a bridge apart: its layers, its first and its last step as functions without hooks, or why they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.blocks import Block, Blocks, Function
from workbench.model.hooks import Wiring, component, forward, norm_before
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# What acts on large values alone: a comparison on some prompts would not see it.
_LIMITS = ("clip_qkv", "softcap", "soft_cap", "logit_cap")
_TANH = partial(F.gelu, approximate="tanh"), partial(torch.ops.aten.gelu_, approximate="tanh")
_QUICK = lambda x: x * torch.sigmoid(1.702 * x), lambda x: x.mul_(torch.sigmoid(1.702 * x))
# Activations in one pass over memory, and in their argument's place: fresh memory costs as much as the arithmetic.
_ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "ReLU": (F.relu, torch.relu_),
    "GELUActivation": (F.gelu, torch.ops.aten.gelu_),
    "NewGELUActivation": _TANH,
    "FastGELUActivation": _TANH,
    "GELUTanh": _TANH,
    "QuickGELUActivation": _QUICK,
    "SiLU": (F.silu, partial(F.silu, inplace=True)),
    "SiLUActivation": (F.silu, partial(F.silu, inplace=True)),
}


def plain_blocks(bridge: TransformerBridge, wiring: Wiring) -> Blocks | str:
    """Return the blocks of a model as functions, or the reason why there are none."""
    if not (wiring.causal and wiring.edge_level and wiring.head_writes and wiring.has_lm_head):
        return "not a causal stack of blocks that add to the residual stream"
    if limits := limits_of(bridge):
        return f"values are limited by {limits}"
    if wiring.attention_layers != tuple(range(wiring.n_layers)):
        return "layers without attention"
    layers = []
    for layer in range(wiring.n_layers):
        block, attn = bridge.blocks[layer], _part(bridge.blocks[layer], "attn")
        q, k, v, o = (_inner(component(attn, name)) for name in "qkvo")
        mlp = _mlp(_part(block, "mlp")) if layer in wiring.mlp_layers else (None, torch.zeros_like)
        if q is None or k is None or v is None or o is None or mlp is None:
            return "projections are not there one by one"
        q_norm, k_norm = (_inner(component(attn, name)) for name in ("q_norm", "k_norm"))
        layers.append(
            Block(
                q=q,
                k=k,
                v=v,
                o=o,
                norm=_fused(norm_before(bridge, layer, "ln1")),
                mlp_norm=_fused(norm_before(bridge, layer, "ln2")),
                neurons=mlp[0],
                mlp_out=mlp[1],
                head_norms=None if q_norm is None or k_norm is None else (q_norm, k_norm),
            )
        )
    return Blocks(
        layers=tuple(layers),
        n_heads=wiring.n_heads,
        n_kv_heads=wiring.n_kv_heads,
        d_head=wiring.d_head,
        parallel=wiring.parallel,
        embed=_embed(bridge),
    )


def limits_of(bridge: TransformerBridge) -> str:
    """Return the first setting that clips or caps values inside the model; empty where there is none."""
    config: Any = getattr(getattr(bridge, "original_model", None), "config", None)
    known = config.to_dict() if hasattr(config, "to_dict") else vars(config) if config is not None else {}
    return _limit_in(known) or _limit_in(vars(bridge.cfg))


def _limit_in(settings: Mapping[Any, Any]) -> str:
    for name, value in settings.items():
        if isinstance(value, dict):
            if found := _limit_in(value):
                return found
        elif any(word in str(name) for word in _LIMITS):
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(v, int | float) and v > 0 for v in values):
                return str(name)
    return ""


def _part(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """A part that the probe saw."""
    part = component(module, name)
    if part is None:
        raise ModelError(
            f"a {type(module).__name__} has no {name}, and its wiring says that it has one",
            hint="open the model again: wb.open_model(name)",
        )
    return part


def _inner(module: Any) -> Function | None:
    """The wrapped layer itself: no hooks."""
    original = getattr(module, "original_component", None)
    return None if original is None else original.forward


def _fused(norm: Callable[[Tensor], Tensor]) -> Function:
    """The same norm in one pass over memory, where Hugging Face writes it in six."""
    eps, weight = getattr(norm, "variance_epsilon", None), getattr(norm, "weight", None)
    if not type(norm).__name__.endswith("RMSNorm") or eps is None or weight is None:
        return norm
    if weight.dtype != torch.float32:  # Hugging Face's computes in float32 whatever it is given
        return norm
    scaling: Any = norm  # its weight is read at each call: somebody may replace it
    return lambda x: F.rms_norm(x, x.shape[-1:], scaling.weight, eps)


def _mlp(module: torch.nn.Module) -> tuple[Function, Function] | None:
    """The hidden units of an MLP of two or three projections and what they write, or None."""
    original = getattr(module, "original_component", None)
    into, out, gate = (_inner(component(module, name)) for name in ("in", "out", "gate"))
    act = next(
        (getattr(original, n) for n in ("act", "act_fn", "activation_fn") if hasattr(original, n)), None
    )
    if into is None or out is None or act is None:
        return None
    return _units(into, gate, in_place(act)), out


def _units(into: Function, gate: Function | None, act: Function) -> Function:
    """The hidden units of an MLP; with a gate, what goes in is multiplied by the activation of the gate."""
    if gate is None:
        return lambda x: act(into(x))

    def gated(x: Tensor) -> Tensor:
        opened = act(gate(x))
        return opened * into(x) if opened.requires_grad else opened.mul_(into(x))

    return gated


def in_place(act: Function) -> Function:
    """Return the same activation of a tensor that nobody else holds, in its place where no gradient needs it."""
    return in_one_pass(type(act).__name__) if type(act).__name__ in _ACTIVATIONS else act


def in_one_pass(name: str) -> Function:
    """Return an activation by the name of its class, in its argument's place where no gradient needs that."""
    fused, inside = _ACTIVATIONS[name]
    return lambda x: fused(x) if x.requires_grad else inside(x)


def _embed(bridge: TransformerBridge) -> Function | None:
    """Tokens to what enters the first layer, as the sum of two tables."""
    tokens, places = (_inner(component(bridge, name)) for name in ("embed", "pos_embed"))
    if tokens is None or places is None:
        return tokens
    return lambda ids: tokens(ids) + places(torch.arange(ids.shape[1], device=ids.device))


@torch.no_grad()
def entering(
    bridge: TransformerBridge, blocks: Blocks, prompt: Prompt | Int[Tensor, "row pos"]
) -> Float[Tensor, "row pos d_model"]:
    """Say what enters the first layer; where ``blocks`` do not say it, by the model itself without its layers."""
    prompt = Prompt.of(prompt)
    if blocks.embed is not None and not prompt.extras:
        return blocks.embed(prompt.ids)
    seen: list[Tensor] = []

    def first(*args: Any, **kwargs: Any) -> Any:
        seen.append(args[0] if args else kwargs["hidden_states"])
        return (seen[0],) if blocks.in_tuple else seen[0]

    with _blocks_are(bridge, first):
        forward(bridge, prompt, last_only=True)
    return seen[0]


@contextmanager
def _blocks_are(bridge: TransformerBridge, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, this is every block."""
    blocks = list(bridge.blocks)
    for block in blocks:
        object.__setattr__(block, "forward", forward)
    try:
        yield
    finally:
        for block in blocks:
            object.__delattr__(block, "forward")


@contextmanager
def _only(bridge: TransformerBridge, columns: Int[Tensor, " column"] | None) -> Iterator[None]:
    """Inside, the unembedding computes these columns alone."""
    unembed: Any = None if columns is None else component(bridge, "unembed")
    if unembed is None:
        yield
        return
    weight, bias = unembed.W_U.T[columns], unembed.b_U[columns]
    object.__setattr__(unembed, "forward", lambda x, **_: F.linear(x, weight, bias))
    try:
        yield
    finally:
        object.__delattr__(unembed, "forward")


def plain_end(
    bridge: TransformerBridge,
    hidden: Float[Tensor, "row d_model"],
    columns: Int[Tensor, " column"] | None = None,
) -> Float[Tensor, "row d_vocab"] | None:
    """Last norm and unembedding alone: the logits of models that do nothing else there; None where parts lack."""
    norm = _inner(component(bridge, "ln_final"))
    unembed: Any = component(bridge, "unembed")
    if norm is None or unembed is None:
        return None
    weight, bias = unembed.W_U.T, unembed.b_U
    if columns is not None:
        weight, bias = weight[columns], bias[columns]
    return F.linear(norm(hidden), weight, bias)


def read_out(
    bridge: TransformerBridge,
    blocks: Blocks,
    hidden: Float[Tensor, "row d_model"],
    ids: Int[Tensor, " row"],
    columns: Int[Tensor, " column"] | None = None,
) -> Float[Tensor, "row d_vocab"]:
    """Return logits of what leaves the last block at one position, by the model's own last norm, unembedding and
    scales.

    Args:
        ids: Any tokens; the model asks for some.
        columns: Only the logits of these tokens.
    """
    if blocks.ends_plainly and (plain := plain_end(bridge, hidden, columns)) is not None:
        return plain
    entered = hidden[:, None]
    with (
        _blocks_are(bridge, lambda *_, **__: (entered,) if blocks.in_tuple else entered),
        _only(bridge, columns),
    ):
        return bridge(ids[:, None])[:, 0]
