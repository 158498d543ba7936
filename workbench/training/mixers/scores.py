"""Scores of queries and keys, and features whose products approach those of softmax."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.training.mixers.plugs import Content, Scores, Values, Width


def dot_product(content: Content) -> Scores:
    """Return ``q . k / sqrt(d_head)``."""
    return plain_product(content) / content.q.shape[-1] ** 0.5


def plain_product(content: Content) -> Scores:
    """Return ``q . k``, as recurrent layers read their state."""
    return torch.einsum("bqhe,bkhe->bhqk", content.q, content.k)


def key_only(content: Content) -> Scores:
    """Score keys alike for every query: ``sum_d silu(q)[s] * k[s] / sqrt(d_head)`` at the key's own position ``s``."""
    scores = (F.silu(content.q) * content.k).sum(-1) / content.q.shape[-1] ** 0.5
    return scores.transpose(1, 2)[:, :, None].expand(-1, -1, scores.shape[1], -1)


def elu_features(content: Content) -> Scores:
    """Products of ``elu(q) + 1`` and ``elu(k) + 1``, which are positive."""
    return torch.einsum("bqhe,bkhe->bhqk", F.elu(content.q) + 1, F.elu(content.k) + 1)


def positive_features(
    x: Float[Tensor, "*item d_head"], directions: Float[Tensor, "n d_head"]
) -> Float[Tensor, "*item n"]:
    """Return ``exp(w . x - |x|^2 / 2) / sqrt(n)`` for each direction; products estimate ``exp(x . y)``.

    With normal directions the estimate is right on average, and its error falls as ``1 / sqrt(n)``.

    Source:
        Choromanski et al. 2020, arXiv:2009.14794.
    """
    return (x @ directions.T - x.square().sum(-1, keepdim=True) / 2).exp() / len(directions) ** 0.5


class RandomFeatures(nn.Module):
    """Products of ``n`` positive random features, which estimate ``exp(q . k / sqrt(d_head))``."""

    directions: Tensor

    def __init__(self, width: Width, *, n: int, seed: int = 0) -> None:
        super().__init__()
        if n < 1:
            raise OptionError(f"n is {n}; at least one feature is needed", hint="n=64")
        drawn = torch.Generator().manual_seed(seed)
        self.register_buffer("directions", torch.randn(n, width.d_head, generator=drawn), persistent=False)

    def forward(self, content: Content) -> Scores:
        """Return products of features, all positive."""
        return self.products(content.q, content.k)

    def products(self, q: Values, k: Values) -> Scores:
        """Return products of the features of queries and keys."""
        scale = q.shape[-1] ** 0.25
        q, k = (positive_features(part / scale, self.directions) for part in (q, k))
        return torch.einsum("bqhe,bkhe->bhqk", q, k)
