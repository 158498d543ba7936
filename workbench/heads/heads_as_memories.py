"""Heads of a model as linear memories of their own keys and values: what they would retrieve, beside the formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core.claims import Rows
from workbench.heads.crosstalk import effective_dimension, predicted_fidelity, retrieval_fidelity
from workbench.heads.grounds import Ground
from workbench.heads.memory_capacity import random_pairs
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def heads_as_memories(model: TransformerBridge, ground: Ground, *, draws: int = 8, seed: int = 0) -> Rows:
    """Read keys and values of every head on a ground, and ask a linear memory of them for each value.

    Args:
        draws: Random memories of as many pairs as wide as the head's, which its own is compared with.

    Returns:
        One row per KV head: pairs of a window, effective dimension of its keys, and the cosine with the right value
        as measured, by the formula with that dimension, and with random keys. Layers that show no keys have none.

    Source:
        Qiao 2025 (linear attention as a memory of pairs).
    """
    rows: Rows = []
    for layer in wiring(model).attention_layers:
        names = [hook_name(site, layer) for site in ("k", "v")]
        parts = [record(model, ids, names)[1] for _, ids in ground.batches()]
        if any(part.get(name) is None or part[name].ndim != 4 for part in parts for name in names):
            continue
        for head in range(parts[0][names[0]].shape[2]):
            pairs = [tuple(part[n][:, ground.prefix :, head].double() for n in names) for part in parts]
            size = float(np.mean([float(effective_dimension(k).mean()) for k, _ in pairs]))
            found = float(np.mean([float(retrieval_fidelity(k, v).mean()) for k, v in pairs]))
            n, d = pairs[0][0].shape[1:]
            drawn = retrieval_fidelity(*random_pairs(n, d, draws=draws, seed=[seed, layer, head]))
            rows.append({
                "keys": f"a{layer}.g{head}", "pairs": n, "dimensions": size, "measured": found,
                "predicted": float(predicted_fidelity(n, size)), "random": float(drawn.mean()),
            })  # fmt: skip
    return rows
