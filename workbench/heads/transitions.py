"""What a step leaves of a layer's state: transitions of state-space and recurrent models, and of softmax heads.

Near 1 the state is retained, near 0 it is forgotten. Read of what the hooks of a bridge show and of its own weights, so
the same numbers come out whether a model was trained here or elsewhere.

Source:
    Sieber et al. 2024, the dynamical systems framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from workbench.core.errors import ModelError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Transitions = Float[Tensor, "batch pos channel"]
FORGOTTEN, RETAINED = 0.1, 0.9  # of a state, at which a step is counted as one or the other


@torch.no_grad()
def transition_spectrum(model: TransformerBridge, ids: Int[Tensor, "batch pos"]) -> dict[int, Transitions]:
    """Return what each step leaves of every channel of the state, by layer: Mamba, Mamba-2 and RWKV through a bridge.

    Mamba: ``exp(-softplus(dt) exp(A_log))`` for every channel and state; Mamba-2: one number a head; RWKV: one number a
    channel, which does not depend on the token.

    Raises:
        ModelError: for a model whose layers keep no such state.

    Source:
        Gu and Dao 2023 (Mamba); Dao and Gu 2024 (Mamba-2); Peng et al. 2023 (RWKV), as transformers implements them.
    """
    kind = getattr(model.original_model.config, "model_type", "")
    if kind not in READ:
        known = ", ".join(READ)
        raise ModelError(
            f"a model of type {kind!r} keeps no state whose transitions can be read; known: {known}",
            hint="softmax_transitions(scores) reads those of a softmax head",
        )
    part, needed, read = READ[kind]
    names = {i: f"blocks.{i}.{part}.{needed}" for i in range(len(model.blocks))}
    _, seen = model.run_with_cache(ids, names_filter=list(names.values()))
    lacking = [name for name in names.values() if name not in seen]
    if lacking:
        raise ModelError(
            f"{lacking[0]} did not fire: its transitions cannot be read",
            hint="open the model with workbench.open_model, which lets these hooks fire",
        )
    return {i: read(_weights(block), seen[names[i]]) for i, block in enumerate(model.blocks)}


def _weights(block: Any) -> Mapping[str, Tensor]:
    """Weights of a layer under transformers' names."""
    return {name.replace("_original_component.", ""): value for name, value in block.named_parameters()}


def mamba_transitions(weights: Mapping[str, Tensor], projected: Float[Tensor, "batch pos _"]) -> Transitions:
    """Return transitions of every channel and state of one Mamba layer, from the output of its ``x_proj``."""
    rank = weights["mixer.dt_proj.weight"].shape[1]
    dt = F.linear(projected[..., :rank], weights["mixer.dt_proj.weight"], weights["mixer.dt_proj.bias"])
    rates = weights["mixer.A_log"].float().exp()  # (channel, state)
    return torch.exp(-F.softplus(dt)[..., None] * rates).flatten(-2)


def mamba2_transitions(weights: Mapping[str, Tensor], projected: Float[Tensor, "batch pos _"]) -> Transitions:
    """Return the transition of every head of one Mamba-2 layer, from the output of its ``in_proj``."""
    heads = len(weights["mixer.dt_bias"])
    dt = F.softplus(projected[..., -heads:] + weights["mixer.dt_bias"])
    return torch.exp(-dt * weights["mixer.A_log"].float().exp())


def rwkv_transitions(weights: Mapping[str, Tensor], keys: Float[Tensor, "batch pos channel"]) -> Transitions:
    """Return the transition of every channel of one RWKV layer, the same at every step."""
    decay = torch.exp(-weights["attention.time_decay"].exp())
    return decay.expand(*keys.shape[:2], -1)


READ: dict[str, tuple[str, str, Callable[..., Transitions]]] = {
    "mamba": ("mixer", "x_proj.hook_out", mamba_transitions),
    "mamba2": ("mixer", "in_proj.hook_out", mamba2_transitions),
    "rwkv": ("time_mix", "key.hook_out", rwkv_transitions),
}


def softmax_transitions(scores: Float[Tensor, "*head query key"]) -> Float[Tensor, "*head query key"]:
    """Return what each step leaves of a softmax head's running mean, for a query that stays as it is.

    With ``n(i)`` the sum of ``exp(score)`` over keys up to ``i`` it is ``n(i - 1) / n(i)``: 0 at the first key, near 1
    where a key hardly counts.

    Args:
        scores: Of each query with every key, unmasked.

    Example:
        >>> softmax_transitions(torch.zeros(1, 4))[0].tolist()
        [0.0, 0.5, 0.6666666865348816, 0.75]
    """
    sums = scores.double().logcumsumexp(-1)
    before = F.pad(sums[..., :-1], (1, 0), value=-torch.inf)
    return (before - sums).exp().to(scores)


def spectrum_row(transitions: Float[Tensor, "*step"]) -> dict[str, float]:
    """Tell the spectrum of a layer in numbers: quantiles over all steps and channels, shares retained and forgotten.

    Example:
        >>> row = spectrum_row(torch.tensor([[[0.05, 0.5, 0.95, 1.0]]]))
        >>> row["retained"], row["forgotten"]
        (0.5, 0.25)
    """
    flat = transitions.flatten().float()
    low, middle, high = torch.quantile(flat, torch.tensor([0.05, 0.5, 0.95], device=flat.device)).tolist()
    return {
        "5 %": low,
        "median": middle,
        "95 %": high,
        "retained": float((flat > RETAINED).float().mean()),
        "forgotten": float((flat < FORGOTTEN).float().mean()),
    }
