"""Attention patterns of any model: read where the model shows them, recomputed and checked where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits import addresses
from workbench.core.errors import ModelError, expect
from workbench.model.hooks import TOLERANCE, hook_name
from workbench.model.probe import recompute_pattern, record, wiring
from workbench.model.prompt import Prompt
from workbench.model.reading import require_tokens
from workbench.model.wiring import Wiring, require_heads

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Patterns of one forward pass, ``(row, head, query, key)`` per attention layer.

    Attributes:
        recomputed: Layers whose attention is fused (it never makes a pattern), so that it was computed from
            queries and keys and checked: pattern times values is what the heads put out.
        refused: Layer -> why it has no pattern here.
        outputs: Head outputs ``z`` of the layers, ``(row, query, head, d_head)``, where they were asked for.
        tower: The stack that the layers are of; None is the model's own.
    """

    patterns: Mapping[int, Float[Tensor, "row head query key"]]
    recomputed: tuple[int, ...]
    refused: Mapping[int, str]
    outputs: Mapping[int, Float[Tensor, "row query head d_head"]]
    tower: str | None = None

    def of(self, layer: int) -> Float[Tensor, "row head query key"]:
        """Return the pattern of a layer.

        Raises:
            ModelError: if the layer has none, with the reason.
        """
        if layer not in self.patterns:
            why = self.refused.get(layer, "it has no attention")
            raise ModelError(
                f"layer {layer} shows no attention pattern: {why}",
                hint=f"layers with a pattern: {', '.join(map(str, sorted(self.patterns))) or 'none'}",
            )
        return self.patterns[layer]

    def by_head(self) -> dict[str, Float[np.ndarray, "row query key"]]:
        """Give every head's pattern by its address (``a0.h1``, ``vision:a0.h1``), layer by layer, in float64.

        Raises:
            ModelError: if a layer with attention has none, with the reason.
        """
        layers = sorted({*self.patterns, *self.refused})
        found = {layer: self.of(layer).double().cpu().numpy() for layer in layers}
        return {
            str(replace(addresses.head(layer, head), tower=self.tower)): A[:, head]
            for layer, A in found.items()
            for head in range(A.shape[1])
        }


@torch.no_grad()
def patterns_of(
    model: TransformerBridge,
    ids: Prompt | Int[Tensor, "row pos"],
    *,
    outputs: bool = False,
    tower: str | None = None,
) -> Seen:
    """Read the attention patterns of every layer on these tokens; nothing is padded.

    Args:
        outputs: Also keep what the heads put out.
        tower: Another stack of the model, such as ``vision``, whose positions are the picture's own.

    Returns:
        Per layer ``(row, head, query, key)``: shares from 0 to 1 that sum to 1 over keys; layers without a pattern,
        with the reason.

    Raises:
        OptionError: if the ids are no tensor.
        ModelError: if the model has no attention heads, or no such tower.
        TaskError: for a token id that the model has no embedding for, or a prompt beyond its context.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:ioi")
        >>> wb.patterns_of(model, model.to_tokens("Mary and John")).patterns[0].shape[1]
        4
    """
    expect(ids, (Tensor, Prompt), what="patterns_of: ids", hint="model.to_tokens(text) makes them of a text")
    found = wiring(model).of(tower)
    require_heads(found)
    require_tokens(model, ids)
    sites = ("pattern", "head-output") if outputs else ("pattern",)
    names = [hook_name(site, n, found.prefix) for site in sites for n in found.attention_layers]
    _, seen = record(model, ids, names)
    shown = {n: seen.get(hook_name("pattern", n, found.prefix)) for n in found.attention_layers}
    patterns = {n: A for n, A in shown.items() if A is not None and A.ndim == 4}
    silent = [n for n in found.attention_layers if n not in patterns]
    made, refused = _recomputed(model, ids, silent, found) if silent else ({}, {})
    heads = {n: seen.get(hook_name("head-output", n, found.prefix)) for n in found.attention_layers}
    return Seen(
        patterns={n: A for n, A in sorted({**patterns, **made}.items())},
        recomputed=tuple(sorted(made)),
        refused=refused,
        outputs={n: z for n, z in heads.items() if z is not None},
        tower=tower,
    )


def _recomputed(
    model: TransformerBridge, ids: Prompt | Tensor, layers: list[int], wires: Wiring
) -> tuple[dict[int, Tensor], dict[int, str]]:
    """Patterns of fused layers from q and k, kept only where they explain the heads' outputs."""
    sites = ("q", "k", "v", "head-output")
    _, seen = record(model, ids, [hook_name(s, n, wires.prefix) for n in layers for s in sites])
    made, refused = {}, {}
    for layer in layers:
        parts = [
            part
            for s in sites
            if (part := seen.get(hook_name(s, layer, wires.prefix))) is not None and part.ndim == 4
        ]
        if len(parts) < len(sites):
            refused[layer] = "its attention is fused, and queries, keys and values cannot be seen"
            continue
        q, k, v, z = parts
        k, v = (x.repeat_interleave(q.shape[2] // x.shape[2], dim=2) for x in (k, v))  # KV groups
        pattern = recompute_pattern(q, k, wires.causal)
        error = float((torch.einsum("bhqk,bkhe->bqhe", pattern, v) - z).abs().max() / (1 + z.abs().max()))
        if error <= TOLERANCE.get(z.dtype, 2e-4):
            made[layer] = pattern
        else:
            refused[layer] = (
                "its attention is fused, and softmax(q k / sqrt(d_head)) is not what it does (rotary positions, a "
                f"window or a bias come between): outputs are off by {error:.2g}; open it with eager attention"
            )
    return made, refused
