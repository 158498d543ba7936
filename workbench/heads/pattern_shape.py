"""What patterns are like, in the numbers by which variants of attention are told apart.

Post-softmax patterns ``(..., head, query, key)``; what a query cannot see is 0. `indicators` has entropy and the first
token; ``first_token(A, rows=slice(None))`` is the paper's sink, with row 0.

Source:
    Xue, Moosavi and Aletras 2025, Deconstructing Attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.heads.indicators import Pattern, entropy, first_token, patterns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.core.claims import Rows


def shape_rows(
    patterns_of: Mapping[str, Mapping[int, Float[Tensor, "row head query key"]]],
) -> Rows:
    """Return one row for each model and layer with what its patterns are like (`shape_of_patterns`).

    Args:
        patterns_of: By model and layer.
    """
    return [
        {"arm": arm, "layer": layer, **shape_of_patterns(pattern)}
        for arm, layers in patterns_of.items()
        for layer, pattern in layers.items()
    ]


def concentration(A: Pattern) -> Float[Tensor, "*head"]:
    """Measure how concentrated a pattern is: ``||A||_F``; ``sqrt(L)`` where every query looks at one key.

    Returns:
        From ``sqrt(1 + 1/2 + ... + 1/L)`` (uniform, causal) to ``sqrt(L)``.

    Example:
        >>> import torch
        >>> concentration(torch.eye(4)[None]).tolist()
        [2.0]
    """
    return patterns(A).float().square().sum((-2, -1)).sqrt()


def head_diversity(A: Pattern) -> Float[Tensor, "*layer"]:
    """Measure how heads of a layer differ: the standard deviation over heads of each visible weight, their mean.

    Returns:
        ``2 / (L (L + 1)) sum over s <= t``; 0 where all heads look alike.
    """
    spread = patterns(A).float().std(-3, unbiased=False)
    n = spread.shape[-1]
    return spread.tril().sum((-2, -1)) * 2 / (n * (n + 1))


def local_focus(A: Pattern, back: int) -> Float[Tensor, "*head"]:
    """Measure the mean weight of the key ``back`` tokens before the query, over the queries that have one.

    Raises:
        OptionError: for a distance below 0, or no query so far on.
    """
    A = patterns(A).float()
    if not 0 <= back < A.shape[-1]:
        raise OptionError(f"{back} tokens back in patterns of {A.shape[-1]}", hint="back=0 to 3")
    return A.diagonal(-back, dim1=-2, dim2=-1).mean(-1)


def shape_of_patterns(A: Float[Tensor, "row head query key"]) -> Mapping[str, float]:
    """Return all of these of one layer, means over rows and heads."""
    found = {"entropy": entropy(A), "concentration": concentration(A), "head diversity": head_diversity(A)}
    found |= {"sink": first_token(A, rows=slice(None)), **{f"focus {n}": local_focus(A, n) for n in range(4)}}
    return {name: float(value.mean()) for name, value in found.items()}
