"""How attention flows through all layers: heads weighted by how sharply they look, and the flow kept off early tokens.

In a causal model every later token sees the first ones, and what is rolled out through layers gathers there whatever
the model looks for. The regulariser weighs a key by how few queries see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ShapeError

Pattern = Float[Tensor, "row head query key"]
Flow = Float[Tensor, "row query key"]


def sharpness(A: Pattern) -> Float[Tensor, "row head"]:
    """Return how sharply heads look: the largest weight of a query, mean over queries; 0 to 1.

    Source:
        VL-SAM 2024, as reconstructed from its abstract.

    Example:
        >>> sharpness(torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])).item()
        0.75
    """
    return A.amax(-1).mean(-1)


def weighted_rollout(
    patterns: Mapping[int, Pattern] | Sequence[Pattern],
    *,
    regularised: bool = True,
    causal: bool = True,
    weights: Sequence[Float[Tensor, "row head"]] | None = None,
) -> Flow:
    """Roll attention out through layers: ``R = (I + sum over heads of w A) R`` of the layer before, rows summing to 1.

    Args:
        patterns: Of every layer, the first one first.
        regularised: Multiply a key's column by ``1 - (n - 1) / T`` first, where ``n`` of ``T`` queries may look at it:
            keys do not gain by being early. Rows keep their sums.
        causal: Whether queries look back only. Where all see all, the regulariser changes nothing.
        weights: Of heads, for every layer; by default ``sharpness``.

    Returns:
        What of each position (key) has arrived at each query after the last layer: shares that sum to 1.

    Raises:
        ShapeError: without a layer, or with weights of other layers than there are.

    Source:
        VL-SAM 2024 (attention flow), as reconstructed from its abstract; rollout is by Abnar and Zuidema 2020.

    Example:
        >>> weighted_rollout([torch.eye(3)[None, None]] * 4)[0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    layers = [patterns[n] for n in sorted(patterns)] if isinstance(patterns, Mapping) else list(patterns)
    of_heads = [sharpness(A) for A in layers] if weights is None else list(weights)
    if not layers or len(layers) != len(of_heads):
        raise ShapeError(
            f"{len(of_heads)} layers of weights for {len(layers)} layers of patterns",
            hint="give weights for every layer of patterns, and at least one layer",
        )
    own = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype, device=layers[0].device)
    flow = own.expand(len(layers[0]), -1, -1)
    for A, weight in zip(layers, of_heads, strict=True):
        step = torch.einsum("rh,rhqk->rqk", weight, A)
        step = own + (regularise(step, causal=causal) if regularised else step)
        flow = step / step.sum(-1, keepdim=True) @ flow
    return flow


def regularise(flow: Flow, *, causal: bool = True) -> Flow:
    """Multiply every key's column by ``1 - (n - 1) / T``, where ``n`` of ``T`` queries may look at it; rows keep their
    sums.

    Returns:
        Weights of the same sums, at least 0.

    Example:
        >>> even = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])  # columns are worth 1/2 and 1
        >>> regularise(even)[0, 1].tolist()
        [0.3333333432674408, 0.6666666865348816]
    """
    T = flow.shape[-1]
    seen = torch.arange(T, 0, -1, device=flow.device) if causal else torch.full((T,), T, device=flow.device)
    less = flow * (1 - (seen - 1) / T)
    return less * flow.sum(-1, keepdim=True) / less.sum(-1, keepdim=True)


def early_mass(flow: Float[np.ndarray, "*batch key"], share: float = 0.25) -> Float[np.ndarray, "*batch"]:
    """Return how much lies on the first ``share`` of positions (rounded down, one at least), of rows that sum to 1.

    Example:
        >>> float(early_mass(np.array([0.5, 0.2, 0.2, 0.1])))
        0.5
    """
    first = max(1, int(flow.shape[-1] * share))
    return np.asarray(np.asarray(flow, dtype=float)[..., :first].sum(-1))
