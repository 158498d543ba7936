"""How much of where a head looks is a bias of keys: some keys get more from every query that can see them.

The bias is a weight for each key; a query shares its attention among the keys it sees in proportion to these. In a
causal model weights that grow with position look at the last key that is seen, so a head that looks back by a fixed
step would count. By default weights therefore come on top of how much the head gives to each distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.heads.indicators import looked
from workbench.masks.sequences import causal
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STEPS = 40
TINY = 1e-300


def by_distance(
    A: Float[Tensor, "*batch query key"], visible: Bool[Tensor, "query key"]
) -> Float[Tensor, "*batch query key"]:
    """Return the pattern of the same head that knows only distances: the mean weight at each, rows divided by sums.

    Returns:
        Rows over visible keys that sum to 1.
    """
    A, n = looked(A).nan_to_num().double(), A.shape[-1]
    at = torch.arange(n, device=A.device)
    apart = (at[:, None] - at[None, :] + n - 1).flatten()  # (query key,)
    seen = visible.double().flatten()
    sums = A.new_zeros(*A.shape[:-2], 2 * n - 1).index_add(-1, apart, A.flatten(-2))
    counts = A.new_zeros(2 * n - 1).index_add(0, apart, seen)
    means = (sums / counts.clamp(min=1))[..., apart].unflatten(-1, (n, n)) * visible
    return means / means.sum(-1, keepdim=True).clamp(min=TINY)


def key_weights(
    A: Float[Tensor, "*batch query key"],
    base: Float[Tensor, "*#batch query key"],
    *,
    steps: int = STEPS,
) -> Float[Tensor, "*batch key"]:
    """Fit one weight to each key, so that ``base`` times the weights is as near as possible to the pattern (KL).

    No step makes it worse (Luce's choice, by minorisation).

    Returns:
        Weights that sum to 1, at least 0.
    """
    A, base = looked(A).nan_to_num().double(), base.double()
    given, rows = A.sum(-2), A.sum(-1)  # (*batch, key), (*batch, query)
    weights = torch.full_like(given, 1 / given.shape[-1])
    for _ in range(steps):
        total = (base @ weights[..., None])[..., 0].clamp(min=TINY)
        owed = ((rows / total)[..., None, :] @ base)[..., 0, :]
        weights = given / owed.clamp(min=TINY)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=TINY)
    return weights


def key_bias_share(
    A: Float[Tensor, "*batch query key"],
    visible: Bool[Tensor, "query key"],
    *,
    beyond_distance: bool = True,
    steps: int = STEPS,
) -> Float[Tensor, "*batch"]:
    """Say which share of a pattern's departure from an even look is a bias of keys that all queries share.

    What the weights of keys take off the distance (KL, rows added up) to the head's own pattern, over that of an even
    look. They start from the head's mean weight at each distance, or from an even look.

    Args:
        beyond_distance: False starts from an even look; a causal head that looks at itself then has such a bias.

    Returns:
        0 to 1: 0 for an even look and for a head that looks back by a fixed step.

    Example:
        >>> bias = torch.tensor([[0.5, 0.3, 0.2]]).expand(3, 3)
        >>> round(float(key_bias_share(bias, torch.ones(3, 3, dtype=torch.bool), beyond_distance=False)), 6)
        1.0
    """
    A = looked(A).nan_to_num().double()
    even = (visible / visible.sum(-1, keepdim=True)).to(A).expand_as(A)
    base = by_distance(A, visible) if beyond_distance else even
    fitted = base * key_weights(A, base, steps=steps)[..., None, :]
    fitted = fitted / fitted.sum(-1, keepdim=True).clamp(min=TINY)
    start, end, whole = (_apart(A, other) for other in (base, fitted, even))
    share = (start - end) / torch.maximum(start, whole).clamp(min=1e-9)
    return torch.where(whole > 1e-9, share.clamp(0, 1), 0.0)


@torch.no_grad()
def key_bias_of_heads(model: TransformerBridge, prompt: Prompt) -> tuple[dict[str, float], tuple[int, ...]]:
    """Say of every head of a causal model how much of where it looks is a bias of keys, beyond distance.

    Returns:
        ``key_bias_share`` by head, mean over the prompts; and the layers that show no pattern, which have none.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:induction")
        >>> shares, without = key_bias_of_heads(model, Prompt(torch.arange(12)[None]))
        >>> list(shares)[:2], without, all(0 <= share <= 1 for share in shares.values())
        (['a0.h0', 'a0.h1'], (), True)
    """
    layers, found = wiring(model).attention_layers, dict[str, float]()
    names = {layer: hook_name("pattern", layer) for layer in layers}
    _, seen = record(model, prompt, list(names.values()))
    for layer in layers:
        if (pattern := seen.get(names[layer])) is not None:
            shares = key_bias_share(pattern, causal(pattern.shape[-1])).mean(0)
            found |= {f"a{layer}.h{i}": float(share) for i, share in enumerate(shares)}
    return found, tuple(layer for layer in layers if names[layer] not in seen)


def _apart(A: Tensor, other: Tensor) -> Tensor:
    """The KL distance from another pattern, rows added up."""
    return (torch.special.xlogy(A, A) - torch.special.xlogy(A, torch.where(A > 0, other, 1.0))).sum((-2, -1))
