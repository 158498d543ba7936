"""CKA: do two sets of activations tell the same prompts apart? Centred kernel alignment, debiased.

Plain CKA is far above 0 for independent data when there are as many features as samples. The unbiased estimate takes
the diagonal away; it is about 0 there, and it may be a little below.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ShapeError

Samples = Float[Tensor, "sample feature"]


def cka(
    x: Float[Tensor, "sample feature"], y: Float[Tensor, "sample other"], *, debiased: bool = True
) -> Float[Tensor, ""]:
    """Say how alike two sets of activations of the same samples are, whatever their rotation and scale.

    Args:
        debiased: With the unbiased estimate of dependence (HSIC); False is the plain, biased one.

    Returns:
        1 for ``y = c x Q`` with Q orthogonal; about 0 for independent data, debiased. -1 to 1; NaN where one of them
        does not vary.

    Raises:
        ShapeError: if they have different samples, or fewer than 4.

    Source:
        Kornblith et al. 2019, arXiv:1905.00414; the unbiased HSIC of Song et al. 2012.

    Example:
        >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
        >>> round(float(cka(x, -2 * x)), 4)
        1.0
    """
    return cka_matrix([x, y], debiased=debiased)[0, 1].to(x.dtype)


def cka_matrix(sets: list[Tensor], *, debiased: bool = True) -> Float[Tensor, "one other"]:
    """Return CKA between every two of several sets of activations ``(sample, feature)`` of the same samples.

    No matrix of samples by samples is made: work and memory grow with features.

    Raises:
        ShapeError: if they have different samples, or fewer than 4.
    """
    n = len(sets[0])
    if n < 4 or any(len(one) != n for one in sets):
        found = ", ".join(str(len(one)) for one in sets)
        raise ShapeError(
            f"sets of {found} samples; at least 4, the same for all, are needed",
            hint="give at least 4 rows to each set, the same samples in the same order",
        )
    centred = [(one.double() - one.double().mean(0)) for one in sets]
    size = [one.shape[1] for one in sets]
    products = torch.cat(centred, 1)
    blocks = (products.mT @ products).square()  # (all features, all features)
    inner = torch.stack(
        [torch.stack([part.sum() for part in row.split(size, 1)]) for row in blocks.split(size, 0)]
    )
    if debiased:
        inner = _unbiased(inner, centred)
    own = inner.diagonal().clamp(min=0).sqrt()
    # a set that does not vary has no direction; 1e-12 of what the largest varies is rounding
    own = torch.where(own > 1e-12 * own.max(), own, torch.nan)
    return (inner / (own[:, None] * own[None, :])).clamp(-1, 1)


def _unbiased(inner: Tensor, centred: list[Tensor]) -> Tensor:
    """HSIC without its bias, times n (n - 3): the diagonal of each kernel is 0, and what is left is centred again.

    Of ``K = x x'`` with zero diagonal and x centred, a row sums to minus its diagonal entry.
    """
    n = len(centred[0])
    norms = torch.stack([one.square().sum(1) for one in centred])  # (set, sample): the diagonals
    trace = inner - norms @ norms.mT
    totals = norms.sum(1)  # minus the sums of all entries
    return trace + totals[:, None] * totals[None, :] / ((n - 1) * (n - 2)) - 2 / (n - 2) * (norms @ norms.mT)
