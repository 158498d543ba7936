"""The blocks of a plain transformer as functions: norm, attention, MLP, without hooks and with fewer positions.

A hooked forward pass computes every position of every layer. ``run`` computes what is asked: the positions from a start
on, with the keys and values of those before it given, or the last position alone. ``walk`` goes through all layers and
calls functions at the places where TransformerLens has its hooks, under the same names. Both use the bridge's own
norms and projections, so they hold whatever weights the bridge holds. Whether they are the model is measured
(``workbench/model/trial.py``), never assumed: rotary conventions, windows, soft caps and post-norms not written
here make a difference, and then they are not used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workbench.model.wiring import hook_name

Function = Callable[[Tensor], Tensor]
Heads = Float[Tensor, "row pos head d_head"]
Queries = Float[Tensor, "row query head d_head"]
Keys = Float[Tensor, "row key kv_head d_head"]
Hook = tuple[str, Callable[..., Tensor | None]]
_WALKED = ("resid", "q", "k", "v", "head-output", "attn-out", "neurons", "mlp-out")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One layer as functions of tensors ``(row, pos, d_model)``; ``rotary`` holds cosines and sines by position.

    The MLP is its norm, its hidden units and what they write; the units are None where a layer has no MLP.
    """

    norm: Function
    q: Function
    k: Function
    v: Function
    o: Function
    head_norms: tuple[Function, Function] | None
    mlp_norm: Function
    neurons: Function | None
    mlp_out: Function
    rotary: tuple[Tensor, Tensor] | None = None


@dataclass(eq=False, kw_only=True)
class Blocks:
    """All layers of a model at one length of prompts.

    Attributes:
        parallel: Attention and MLP read the same residual stream.
        embed: What enters the first layer for these tokens; None where only the model knows.
        in_tuple: The model expects of each block a tuple, not a tensor.
        ends_plainly: The logits are the last norm and the unembedding, nothing else.
        by_column: Logits of some tokens can be computed without the others.
        d_out: How many logits there are.
    """

    layers: tuple[Block, ...]
    n_heads: int
    n_kv_heads: int
    d_head: int
    parallel: bool
    embed: Callable[[Int[Tensor, "row pos"]], Tensor] | None = None
    in_tuple: bool = False
    ends_plainly: bool = False
    by_column: bool = False
    d_out: int = 0
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.layers)

    def keys_values(
        self, layer: int, x: Float[Tensor, "row pos d_model"], start: int = 0
    ) -> tuple[Keys, Keys]:
        """Rotated keys and values of the residual stream at the positions from ``start`` on."""
        block = self.layers[layer]
        return self._keys_values(block, block.norm(x), start)

    def _keys_values(self, block: Block, normed: Tensor, start: int) -> tuple[Keys, Keys]:
        k = self.turned(block, 1, self._split(block.k(normed)), start)
        return k, self._split(block.v(normed))

    def _split(self, x: Tensor) -> Heads:
        return x.unflatten(-1, (-1, self.d_head))

    def turned(self, block: Block, which: int, x: Heads, start: int) -> Heads:
        """Queries (0) or keys (1) as attention compares them: through their own norm, and rotated."""
        return rotate(block.head_norms[which](x) if block.head_norms else x, block.rotary, start)

    def run(
        self,
        layer: int,
        x: Float[Tensor, "row pos d_model"],
        *,
        start: int = 0,
        before: tuple[Keys, Keys] | None = None,
        last: bool = False,
    ) -> Float[Tensor, "row out d_model"]:
        """Compute what a layer makes of the residual stream at the positions from ``start`` on.

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
        q = self.turned(block, 0, self._split(block.q(normed)), first)
        attended = block.o(self._attend(q, k, v, first).flatten(2))
        if self.parallel:
            return attended.add_(x).add_(self.mlp(layer, x))
        return self.after_attention(layer, attended.add_(x))

    def walk(
        self,
        x: Float[Tensor, "row pos d_model"],
        hooks: Iterable[Hook] = (),
        *,
        start: int = 0,
        last: bool = False,
    ) -> Float[Tensor, "row out d_model"]:
        """Compute what leaves the last layer when ``x`` enters layer ``start``; differentiable.

        Args:
            hooks: Functions of the tensor at a hook and of the hook (here None); what they return takes its place.
            last: In the last layer only the last position is computed, keys and values everywhere; hooks see that.
        """
        at: dict[str, list[Callable[..., Tensor | None]]] = defaultdict(list)
        for name, function in hooks:
            at[name].append(function)
        if not at and not torch.is_grad_enabled():  # the same numbers with fewer copies
            for layer in range(start, len(self)):
                x = self.run(layer, x, last=last and layer == len(self) - 1)
            return x

        def through(name: str, tensor: Tensor) -> Tensor:
            for function in at.get(name, ()):
                new = function(tensor, hook=None)
                tensor = tensor if new is None else new
            return tensor

        for layer in range(start, len(self)):
            block, x = self.layers[layer], through(hook_name("resid", layer), x)
            normed = near = block.norm(x)
            if last and layer == len(self) - 1:
                x, near = x[:, -1:], normed[:, -1:]
            first = normed.shape[1] - x.shape[1]
            q = through(hook_name("q", layer), self._split(block.q(near)))
            k, v = (
                through(hook_name(slot, layer), self._split(project(normed)))
                for slot, project in (("k", block.k), ("v", block.v))
            )
            z = self._attend(self.turned(block, 0, q, first), self.turned(block, 1, k, 0), v, first)
            z = through(hook_name("head-output", layer), z)
            attended = through(hook_name("attn-out", layer), block.o(z.flatten(2)))
            after = x + attended
            if block.neurons is not None:
                own = through(f"blocks.{layer}.hook_mlp_in", x if self.parallel else after)
                read = through(f"blocks.{layer}.mlp.hook_in", block.mlp_norm(own))
                hidden = through(hook_name("neurons", layer), block.neurons(read))
                after = after + through(hook_name("mlp-out", layer), block.mlp_out(hidden))
            x = after
        return through(f"blocks.{len(self) - 1}.hook_out", x)

    def _attend(self, q: Queries, k: Keys, v: Keys, first: int) -> Queries:
        """Causal attention of the queries at the positions from ``first`` on, over all keys."""
        n_queries, n_groups = q.shape[1], k.shape[2]
        shared = self.n_heads // n_groups  # queries that share keys stand below each other: no key is copied
        q = q.unflatten(2, (n_groups, shared)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        # One query, the last one, sees everything.
        mask = None if n_queries == 1 else self._mask(first, k, shared)
        z = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        return z.unflatten(2, (shared, n_queries)).permute(0, 3, 1, 2, 4).flatten(2, 3)

    def _mask(self, first: int, k: Keys, shared: int) -> Float[Tensor, "query key"]:
        n_keys = k.shape[1]
        key = (first, n_keys)
        if key not in self._masks:
            later = torch.ones(n_keys, n_keys, dtype=torch.bool, device=k.device).triu_(1)
            whole = k.new_zeros(n_keys, n_keys).masked_fill_(later, -torch.inf)
            self._masks[key] = whole[first:].repeat(shared, 1)
        return self._masks[key]

    def mask(self, k: Float[Tensor, "row key d_head"]) -> Float[Tensor, "query key"]:
        """Return what is added to the scores of all queries over these keys, so that none looks ahead."""
        return self._mask(0, k[:, :, None], self.n_heads // self.n_kv_heads)[: k.shape[1]]

    def after_attention(self, layer: int, mid: Tensor) -> Tensor:
        """Return the residual stream after a layer from the one after its attention (not where they are parallel)."""
        return mid if self.layers[layer].neurons is None else self.mlp(layer, mid).add_(mid)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        """Compute what the MLP writes when the residual stream before its norm is ``x``; nothing without an MLP."""
        block = self.layers[layer]
        if block.neurons is None:
            return torch.zeros_like(x)
        return block.mlp_out(block.neurons(block.mlp_norm(x)))


def is_walked(names: Iterable[str], n_layers: int) -> bool:
    """Say whether ``walk`` passes hooks of all these names."""
    return _walked_names(n_layers).issuperset(names)


@cache
def _walked_names(n_layers: int) -> frozenset[str]:
    layers = range(n_layers)
    names = [hook_name(site, layer) for site in _WALKED for layer in layers]
    names += [f"blocks.{n}.{hook}" for n in layers for hook in ("hook_mlp_in", "mlp.hook_in")]
    return frozenset([*names, f"blocks.{n_layers - 1}.hook_out"])


def rotate(x: Heads, rotary: tuple[Tensor, Tensor] | None, start: int) -> Heads:
    """Turn the first coordinates by rotary positions, halves against each other."""
    if rotary is None:
        return x
    cos, sin = (t[start : start + x.shape[1], None] for t in rotary)  # (pos, 1, rotary)
    n, half = cos.shape[-1], cos.shape[-1] // 2
    turned, rest = x[..., :n] * cos, x[..., n:]
    turned[..., :half].addcmul_(x[..., half:n], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned
