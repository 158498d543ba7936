"""A trained layer of the lab as a recurrence: its transition and gain, and how near features come to softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.training.mixers.agents import agent_outputs
from workbench.training.mixers.attention import MixedAttention
from workbench.training.mixers.lab import Lab
from workbench.training.mixers.normalisers import LearnedNormaliser
from workbench.training.mixers.plugs import Values, Width
from workbench.training.mixers.recurrent import Decayed, PerStep, recurrent_outputs
from workbench.training.mixers.scores import RandomFeatures

Ids = Int[Tensor, "batch pos"]


@dataclass(frozen=True, kw_only=True)
class ArmState:
    """One layer as a recurrence, on some rows.

    Attributes:
        q, k, v: What the state is read and written with.
        transition, gain: What a step leaves of the state, and what it adds with.
        z: What the layer gave, by its pattern.
    """

    q: Values
    k: Values
    v: Values
    z: Values
    transition: PerStep
    gain: PerStep

    def apart(self, transition: PerStep | None = None) -> Float[np.ndarray, " batch"]:
        """Say how far outputs step by step are from those of the pattern, as a share of the largest, row by row.

        Args:
            transition: In place of its own.
        """
        used = self.transition if transition is None else transition
        found = recurrent_outputs(*(part.double() for part in (self.q, self.k, self.v, used, self.gain)))
        return ((found - self.z).abs().amax((1, 2, 3)) / self.z.abs().amax((1, 2, 3))).numpy()


@torch.no_grad()
def read_state(model: Lab, ids: Ids, layer: int = 0) -> ArmState:
    """Return a gated or normalised layer of a trained model as a recurrence.

    Raises:
        OptionError: for a layer whose mix is neither.
    """
    attention, at = model.blocks[layer].attn, f"blocks.{layer}"
    mix = attention.mix if isinstance(attention, MixedAttention) else None
    _, seen = model.run_with_cache(ids)
    q, k, v, z = (seen[f"{at}.attn.hook_{name}"] for name in ("q", "k", "v", "z"))
    norm: Any = model.blocks[layer].ln1
    x = norm(seen[f"{at}.hook_resid_pre"])
    if isinstance(mix, Decayed):
        transition, gain = mix.gates(x)
    elif isinstance(mix, LearnedNormaliser):
        q, k = F.elu(q) + 1, F.elu(k) + 1
        eta = mix.normaliser(x)
        transition = torch.cat([torch.ones_like(eta[..., :1]), eta[..., :-1] / eta[..., 1:]], dim=-1)
        gain = 1 / eta
    else:
        raise OptionError(
            f"layer {layer} is neither gated nor normalised: it has no transition of its own",
            hint="name the layer of an arm that is trained with Decayed or LearnedNormaliser",
        )
    return ArmState(q=q, k=k, v=v, z=z, transition=transition, gain=gain)


@torch.no_grad()
def queries_and_keys(model: Lab, ids: Ids, layer: int = 0) -> tuple[Values, Values]:
    """Return queries and keys of a layer."""
    _, seen = model.run_with_cache(ids)
    return seen[f"blocks.{layer}.attn.hook_q"], seen[f"blocks.{layer}.attn.hook_k"]


@torch.no_grad()
def feature_errors(q: Values, k: Values, *, n: int, draws: int) -> Float[np.ndarray, "kind batch"]:
    """Say how far patterns of ``n`` positive random features are from causal softmax, row by row.

    Returns:
        The mean over heads and draws of half the absolute difference of rows, 0 to 1: from the row's own pattern, and
        from that of the next row of the batch.
    """
    width = Width(d_model=1, n_heads=q.shape[2], d_head=q.shape[3])
    visible = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / q.shape[-1] ** 0.5
    wanted = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    found = torch.zeros(2, len(q))
    for seed in range(draws):
        products = RandomFeatures(width, n=n, seed=seed).products(q, k) * visible
        made = products / products.sum(-1, keepdim=True).clamp_min(1e-30)
        for i, target in enumerate((wanted, wanted.roll(1, 0))):
            found[i] += (made - target).abs().sum(-1).mean((1, 2)) / 2 / draws
    return found.double().numpy()


@torch.no_grad()
def agents_apart(model: Lab, ids: Ids, n: int, layer: int = 0) -> Float[np.ndarray, " batch"]:
    """Say how far what ``n`` pooled agents hand on without a pattern is from what a layer gave by its pattern.

    Returns:
        The largest difference of each row as a share of its largest output; 0 where both are the same.
    """
    _, seen = model.run_with_cache(ids)
    q, k, v, z = (seen[f"blocks.{layer}.attn.hook_{name}"] for name in ("q", "k", "v", "z"))
    handed = agent_outputs(q, k, v, n)
    return ((handed - z).abs().amax((1, 2, 3)) / z.abs().amax((1, 2, 3))).numpy()


@torch.no_grad()
def pattern_ranks(model: Lab, ids: Ids, layer: int = 0) -> Float[np.ndarray, " batch"]:
    """Return the rank of a layer's patterns, the largest of its heads, row by row; at most the number of tokens."""
    pattern = model.patterns(ids)[layer].double()
    return torch.linalg.matrix_rank(pattern, rtol=1e-5).double().amax(1).numpy()
