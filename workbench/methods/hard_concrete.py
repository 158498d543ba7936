"""The hard-concrete distribution: masks between 0 and 1 that are often exactly 0 or 1 and can be learned by gradient.

``u ~ U(0, 1);  s = sigmoid((log u - log(1 - u) + m) / beta);  mask = clip(s (zeta - gamma) + gamma, 0, 1)``

Source:
    Louizos, Welling and Kingma 2018, arXiv:1712.01312; constants as in Cao et al. 2021, arXiv:2104.03514.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_SMALLEST = 1e-6  # u this far from 0 and 1: logit(u) stays within 14 and its gradient finite


def open_probability(m: Float[Tensor, "*mask"]) -> Float[Tensor, "*mask"]:
    """Return the probability that a mask is above 0: ``sigmoid(m - beta log(-gamma / zeta))``.

    Example:
        >>> [round(float(open_probability(torch.tensor(m))), 4) for m in (0.0, math.log(9))]
        [0.8318, 0.978]
    """
    return torch.sigmoid(m - BETA * math.log(-GAMMA / ZETA))


def strength(m: Float[Tensor, "*mask"]) -> Float[Tensor, "*mask"]:
    """Return the noise-free mask before it is stretched and clipped, ``sigmoid(m / beta)``: it ranks clipped masks
    too.
    """
    return torch.sigmoid(m / BETA)


def noise_free(m: Float[Tensor, "*mask"]) -> Float[Tensor, "*mask"]:
    """Return the median mask (u = 1/2): 0.5 at m = 0, exactly 0 and 1 beyond about -1.6 and 1.6."""
    return _stretched(strength(m))


def sample(m: Float[Tensor, "*#mask"], noise: Float[Tensor, "*mask"]) -> Float[Tensor, "*mask"]:
    """Return masks for noise uniform in [0, 1]; differentiable in ``m`` with finite gradients, 0 where clipped."""
    u = noise.clamp(_SMALLEST, 1 - _SMALLEST)
    return _stretched(torch.sigmoid((u.log() - (-u).log1p() + m) / BETA))


def uniform(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Return uniform noise from a seeded CPU generator: the same on every device."""
    return torch.rand(*shape, generator=generator).to(like)


def _stretched(s: Tensor) -> Tensor:
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
