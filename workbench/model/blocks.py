"""The blocks of a plain transformer as functions: norm, attention, MLP, without hooks and with fewer positions.

A hooked forward pass computes every position of every layer. These functions compute what is asked: the positions
from a start on, with the keys and values of those before it given, or the last position alone. They call the
bridge's own norms and projections, so they hold whatever weights the bridge holds. Whether they are the model is
measured (``unlike``), never assumed: rotary conventions, windows, soft caps and post-norms that are not written here
make a difference, and then they are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from workbench.model.hooks import Wiring, component, hook_name, norm_before
from workbench.model.probe import record

# Largest relative error seen between a hooked and a plain block on all families of the tests: 6e-7 in float32.
ALIKE = {torch.float32: 1e-5, torch.float64: 1e-12}
# What acts on large values alone: a comparison on some prompts would not see it.
_LIMITS = ("clip_qkv", "softcap", "soft_cap", "logit_cap")
Function = Callable[[Tensor], Tensor]
Heads = Float[Tensor, "row pos head d_head"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One layer as functions of tensors ``(row, pos, d_model)``; ``rotary`` holds cosines and sines by position."""

    norm: Function
    q: Function
    k: Function
    v: Function
    o: Function
    head_norms: tuple[Function, Function] | None
    mlp_norm: Function
    mlp: Function | None
    rotary: tuple[Tensor, Tensor] | None = None


@dataclass(eq=False, kw_only=True)
class Blocks:
    """All layers of a model at one length of prompts.

    Attributes:
        parallel: Attention and MLP read the same residual stream.
        in_tuple: The model expects of each block a tuple, not a tensor.
        ends_plainly: The logits are the last norm and the unembedding, nothing else.
        by_column: Logits of some tokens can be computed without the others.
    """

    layers: tuple[Block, ...]
    n_heads: int
    n_kv_heads: int
    d_head: int
    parallel: bool
    in_tuple: bool = False
    ends_plainly: bool = False
    by_column: bool = False
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.layers)

    def keys_values(
        self, layer: int, x: Float[Tensor, "row pos d_model"], start: int = 0
    ) -> tuple[Heads, Heads]:
        """Rotated keys and values of the residual stream at the positions from ``start`` on."""
        block = self.layers[layer]
        return self._keys_values(block, block.norm(x), start)

    def _keys_values(self, block: Block, normed: Tensor, start: int) -> tuple[Heads, Heads]:
        k = block.k(normed).unflatten(-1, (-1, self.d_head))
        k = block.head_norms[1](k) if block.head_norms else k
        return _rotate(k, block.rotary, start), block.v(normed).unflatten(-1, (-1, self.d_head))

    def run(
        self,
        layer: int,
        x: Float[Tensor, "row pos d_model"],
        *,
        start: int = 0,
        before: tuple[Heads, Heads] | None = None,
        last: bool = False,
    ) -> Float[Tensor, "row pos d_model"]:
        """What a layer makes of the residual stream at the positions from ``start`` on.

        Args:
            before: Keys and values of the positions before ``start``.
            last: Only at the last position.
        """
        block = self.layers[layer]
        normed = block.norm(x)
        k, v = self._keys_values(block, normed, start)
        if before is not None:
            k, v = torch.cat([before[0], k], 1), torch.cat([before[1], v], 1)
        if last:
            x, normed = x[:, -1:], normed[:, -1:]
        first = k.shape[1] - x.shape[1]
        q = block.q(normed).unflatten(-1, (self.n_heads, self.d_head))
        q = block.head_norms[0](q) if block.head_norms else q
        z = self._attend(_rotate(q, block.rotary, first), k, v, first)
        attended = block.o(z.flatten(2))
        if self.parallel:
            return attended.add_(x).add_(self.mlp(layer, x))
        return self.after_attention(layer, attended.add_(x))

    def _attend(self, q: Heads, k: Heads, v: Heads, first: int) -> Heads:
        """Causal attention of the queries at the positions from ``first`` on, over all keys."""
        n_queries, n_groups = q.shape[1], k.shape[2]
        shared = (
            self.n_heads // n_groups
        )  # the queries that share keys stand below each other: no key is copied
        q = q.unflatten(2, (n_groups, shared)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        # One query, the last one, sees everything.
        mask = None if n_queries == 1 else self._mask(first, k, shared)
        z = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        return z.unflatten(2, (shared, n_queries)).permute(0, 3, 1, 2, 4).flatten(2, 3)

    def _mask(self, first: int, k: Heads, shared: int) -> Float[Tensor, "query key"]:
        n_keys = k.shape[1]
        key = (first, n_keys)
        if key not in self._masks:
            later = torch.ones(n_keys, n_keys, dtype=torch.bool, device=k.device).triu_(1)
            whole = k.new_zeros(n_keys, n_keys).masked_fill_(later, -torch.inf)
            self._masks[key] = whole[first:].repeat(shared, 1)
        return self._masks[key]

    def after_attention(self, layer: int, mid: Tensor) -> Tensor:
        """The residual stream after a layer from the one after its attention (not where they are parallel)."""
        return mid if self.layers[layer].mlp is None else self.mlp(layer, mid).add_(mid)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        """What the MLP writes when the residual stream before its norm is ``x``; nothing where there is none."""
        block = self.layers[layer]
        return torch.zeros_like(x) if block.mlp is None else block.mlp(block.mlp_norm(x))


def _rotate(x: Heads, rotary: tuple[Tensor, Tensor] | None, start: int) -> Heads:
    """Rotary positions on the first coordinates, halves turned against each other."""
    if rotary is None:
        return x
    cos, sin = (t[start : start + x.shape[1], None] for t in rotary)  # (pos, 1, rotary)
    (a, b), (sin_a, sin_b) = x[..., : cos.shape[-1]].chunk(2, -1), sin.chunk(2, -1)
    turned, rest = x[..., : cos.shape[-1]] * cos, x[..., cos.shape[-1] :]
    low, high = turned.chunk(2, -1)
    low.addcmul_(b, sin_a, value=-1)
    high.addcmul_(a, sin_b)
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned


def plain_blocks(bridge: TransformerBridge, wiring: Wiring) -> Blocks | str:
    """The blocks of a model as functions, or the reason why there are none."""
    if next(iter(bridge.parameters())).dtype not in ALIKE:
        return "half precision: rounding hides a difference"
    if not (wiring.causal and wiring.edge_level and wiring.head_writes and wiring.has_lm_head):
        return "not a causal stack of blocks that add to the residual stream"
    if limits := limits_of(bridge):
        return f"values are limited by {limits}"
    if wiring.attention_layers != tuple(range(wiring.n_layers)):
        return "layers without attention"
    layers = []
    for layer in range(wiring.n_layers):
        block, attn = bridge.blocks[layer], component(bridge.blocks[layer], "attn")
        parts = {name: _inner(component(attn, name)) for name in "qkvo"}
        mlp = _mlp(component(block, "mlp")) if layer in wiring.mlp_layers else None
        if None in parts.values() or (mlp is None and layer in wiring.mlp_layers):
            return "projections are not there one by one"
        norms = [_inner(component(attn, name)) for name in ("q_norm", "k_norm")]
        layers.append(
            Block(
                **parts,
                norm=norm_before(bridge, layer, "ln1"),
                mlp_norm=norm_before(bridge, layer, "ln2"),
                mlp=mlp,
                head_norms=None if None in norms else (norms[0], norms[1]),
            )
        )
    return Blocks(
        layers=tuple(layers),
        n_heads=wiring.n_heads,
        n_kv_heads=wiring.n_kv_heads,
        d_head=wiring.d_head,
        parallel=wiring.parallel,
    )


def limits_of(bridge: TransformerBridge) -> str:
    """The first setting that clips or caps values inside the model; empty where there is none."""
    config = getattr(getattr(bridge, "original_model", None), "config", None)
    known = config.to_dict() if hasattr(config, "to_dict") else vars(config) if config is not None else {}
    return _limit_in(known) or _limit_in(vars(bridge.cfg))


def _limit_in(settings: dict[Any, Any]) -> str:
    for name, value in settings.items():
        if isinstance(value, dict):
            if found := _limit_in(value):
                return found
        elif any(word in str(name) for word in _LIMITS) and isinstance(value, int | float) and value > 0:
            return str(name)
    return ""


def _inner(module: Any) -> Function | None:
    """The wrapped layer itself: no hooks."""
    original = getattr(module, "original_component", None)
    return None if original is None else original.forward


def _mlp(module: Any) -> Function | None:
    """An MLP of two or three projections, or None."""
    original = getattr(module, "original_component", None)
    into, out, gate = (_inner(component(module, name)) for name in ("in", "out", "gate"))
    act = next(
        (getattr(original, n) for n in ("act", "act_fn", "activation_fn") if hasattr(original, n)), None
    )
    if None in (into, out, act):
        return None
    if type(act).__name__ in ("NewGELUActivation", "FastGELUActivation"):

        def act(x: Tensor) -> Tensor:  # the same formula in one pass over memory instead of eight
            return F.gelu(x, approximate="tanh")

    if gate is None:
        return lambda x: out(act(into(x)))
    return lambda x: out(act(gate(x)).mul_(into(x)))


def with_rotary(
    blocks: Blocks, bridge: TransformerBridge, ids: Int[Tensor, "row pos"]
) -> tuple[Blocks, list[Tensor], Tensor]:
    """The blocks with the cosines and sines of this length; the residual stream before each layer and at the end."""
    n = len(blocks)
    resid = [hook_name("resid", layer) for layer in range(n)] + [f"blocks.{n - 1}.hook_out"]
    turns = [(f"blocks.{i}.attn.hook_cos", f"blocks.{i}.attn.hook_sin") for i in range(n)]
    known = [name for pair in turns for name in pair if name in bridge.hook_dict]
    forms: list[bool] = []
    handle = bridge.blocks[-1].register_forward_hook(lambda m, a, out: forms.append(isinstance(out, tuple)))
    try:
        out, seen = record(bridge, ids, [*resid, *known], last_only=True)
    finally:
        handle.remove()
    layers = []
    for block, pair in zip(blocks.layers, turns, strict=True):
        found = tuple(seen[name].reshape(-1, *seen[name].shape[-2:])[0] for name in pair if name in seen)
        layers.append(Block(**{**vars(block), "rotary": found if len(found) == 2 else None}))
    return (
        Blocks(**{**_settings(blocks), "layers": tuple(layers), "in_tuple": forms[-1]}),
        [seen[name] for name in resid],
        out[:, -1],
    )


def _settings(blocks: Blocks) -> dict[str, Any]:
    return {name: value for name, value in vars(blocks).items() if name != "_masks"}


@torch.no_grad()
def unlike(blocks: Blocks, resid: list[Tensor]) -> float:
    """Largest relative difference between what a block and what the model's own layer writes, over all layers."""
    worst = 0.0
    for layer in range(len(blocks)):
        made, own = blocks.run(layer, resid[layer].clone()), resid[layer + 1]
        if made.shape != own.shape:
            return float("inf")
        error = float((made - own).abs().max() / (1 + own.abs().max()))
        worst = max(worst, error if error == error else float("inf"))
    return worst


def is_bare(bridge: TransformerBridge) -> bool:
    """Whether nobody attached anything to the model: no hook, no replaced forward, no offloading."""
    for module in every_module(bridge):
        if isinstance(module, HookPoint) and (module.fwd_hooks or module.bwd_hooks):
            return False
        attached = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if not all(_own(hook) for hook in attached) or not {"forward", "_hf_hook"}.isdisjoint(vars(module)):
            return False
    return True


def every_module(bridge: TransformerBridge) -> Iterator[torch.nn.Module]:
    """All modules, each once, without their names: ten times less time than ``modules()``, and asked for each part."""
    seen, waiting = {id(bridge)}, [bridge]
    while waiting:
        module = waiting.pop()
        yield module
        for child in vars(module)["_modules"].values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


def _own(hook: Any) -> bool:
    """Whether TransformerLens or Hugging Face put a hook there for their own bookkeeping."""
    home = getattr(getattr(hook, "func", hook), "__module__", None) or ""
    return home.split(".")[0] in ("transformer_lens", "transformers")


@contextmanager
def _ending_with(bridge: TransformerBridge, hidden: Tensor, *, in_tuple: bool) -> Iterator[None]:
    """Inside, a call on the bridge runs no block and goes on from ``hidden``."""

    def passthrough(*args: Any, **kwargs: Any) -> Any:
        return (hidden,) if in_tuple else hidden

    blocks = list(bridge.blocks)
    for block in blocks:
        object.__setattr__(block, "forward", passthrough)
    try:
        yield
    finally:
        for block in blocks:
            object.__delattr__(block, "forward")


@contextmanager
def _only(bridge: TransformerBridge, columns: Int[Tensor, "column"] | None) -> Iterator[None]:
    """Inside, the unembedding computes these columns alone."""
    unembed = None if columns is None else component(bridge, "unembed")
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
    columns: Int[Tensor, "column"] | None = None,
) -> Float[Tensor, "row d_vocab"] | None:
    """Last norm and unembedding alone: the logits of models that do nothing else there; None where parts lack."""
    norm, unembed = _inner(component(bridge, "ln_final")), component(bridge, "unembed")
    if norm is None or unembed is None:
        return None
    weight, bias = unembed.W_U.T, unembed.b_U
    if columns is not None:
        weight, bias = weight[columns], bias[columns]
    return F.linear(norm(hidden), weight, bias)


@torch.no_grad()
def read_out(
    bridge: TransformerBridge,
    hidden: Float[Tensor, "row d_model"],
    ids: Int[Tensor, "row"],
    columns: Int[Tensor, "column"] | None = None,
    *,
    in_tuple: bool = False,
    plainly: bool = False,
) -> Float[Tensor, "row d_vocab"]:
    """Logits of what leaves the last block at one position, by the model's own last norm, unembedding and scales.

    Args:
        ids: Any tokens; the model asks for some.
        columns: Only the logits of these tokens.
        in_tuple: As in ``Blocks``.
        plainly: ``plain_end`` was seen to give the same.
    """
    if plainly:
        return plain_end(bridge, hidden, columns)
    with _ending_with(bridge, hidden[:, None], in_tuple=in_tuple), _only(bridge, columns):
        return bridge(ids[:, None])[:, 0]
