"""How well two runs, or two streams of one run, agree on where each key is looked at from."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ShapeError


def map_consistency(
    first: Float[Tensor, "*row query key"], second: Float[Tensor, "*row query key"]
) -> Float[Tensor, "*row"]:
    """Measure how differently two attention maps look at each key: the KL divergence of the queries that look at it.

    ``mean over keys of KL(first[:, key] / sum || second[:, key] / sum)``. A map is that of one key over all queries,
    such as that of a word over the patches of a picture.

    Args:
        first, second: Patterns with the same queries and keys, of two runs or streams.

    Returns:
        In nats, one value a row; 0 for equal maps, otherwise positive. A number says little by itself: beside it
        belongs the same of another prompt's map.

    Raises:
        ShapeError: if the patterns are of different queries or keys.

    Source:
        IDOL 2024, as a summary says it; the form is ours.

    Example:
        >>> import torch
        >>> looks = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
        >>> float(map_consistency(looks, looks))
        0.0
    """
    if first.shape != second.shape:
        raise ShapeError(
            f"patterns of {tuple(first.shape)} and {tuple(second.shape)}; maps are compared key by key",
            hint="take both over the same queries and keys",
        )
    p, q = (each.clamp_min(1e-12) / each.clamp_min(1e-12).sum(-2, keepdim=True) for each in (first, second))
    return (p * (p.log() - q.log())).sum(-2).mean(-1)
