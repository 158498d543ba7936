"""From scores to patterns: softmax and its relaxations. Every row of these sums to 1, but for ``unnormalised``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.training.mixers.plugs import Content, Scores, Visible, Width


def softmax(scores: Scores, allowed: Visible, content: Content) -> Scores:
    """Softmax over the keys that are allowed."""
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


def taylor(scores: Scores, allowed: Visible, content: Content) -> Scores:
    """Softmax with ``1 + x + x^2 / 2`` for ``exp(x)``, which is positive everywhere."""
    return normalised(1 + scores + scores.square() / 2, allowed, content)


def normalised(scores: Scores, allowed: Visible, content: Content) -> Scores:
    """Positive scores over their sum: linear attention with its normaliser."""
    kept = scores * allowed
    return kept / kept.sum(-1, keepdim=True).clamp_min(1e-9)


def unnormalised(scores: Scores, allowed: Visible, content: Content) -> Scores:
    """Scores as they are: linear attention whose state only grows (its transition is 1)."""
    return scores * allowed


_POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "exponential": torch.exp,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
}


class LearnedNormaliser(nn.Module):
    """Scores over a positive function of what the query reads, one number a head.

    Source:
        Sieber et al. 2024, normalised attention.
    """

    def __init__(self, width: Width, *, kind: str = "exponential") -> None:
        super().__init__()
        if kind not in _POSITIVE:
            raise OptionError(f"normaliser {kind!r}", hint=", ".join(_POSITIVE))
        self.kind, self.eta = kind, nn.Linear(width.d_model, width.n_heads)

    def forward(self, scores: Scores, allowed: Visible, content: Content) -> Scores:
        """Return the pattern ``scores[q, k] / eta(x[q])``."""
        return scores * allowed / self.normaliser(content.x)[..., None]

    def normaliser(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch head pos"]:
        """Return what every query divides by."""
        return _POSITIVE[self.kind](self.eta(x)).transpose(1, 2).clamp_min(1e-6)


def nothing(scores: Scores, allowed: Visible, content: Content) -> Scores:
    """Return weights of 0: a layer whose heads write nothing."""
    return torch.zeros_like(scores)


class FixedPattern(nn.Module):
    """Random weights that stay as drawn, for every head and query others, the same for all texts: a control."""

    def __init__(self, width: Width, *, seed: int = 0) -> None:
        super().__init__()
        self.n_heads, self.seed = width.n_heads, seed

    def forward(self, scores: object, allowed: Visible, content: Content) -> Scores:
        """Return weights over the visible keys: the softmax of normal scores."""
        n, drawn = allowed.shape[-1], torch.Generator().manual_seed(self.seed)
        made = 2 * torch.randn(1, self.n_heads, n, n, generator=drawn).to(content.v)
        return softmax(made, allowed, content).expand(len(content.v), -1, -1, -1)
