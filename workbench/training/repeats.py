"""Repeated random sequences: what induction heads are made of, and measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.training.vocabulary import BOS

Logits = Callable[[Tensor], Tensor]
"""Token ids (sequence, pos) to logits (sequence, pos, d_vocab)."""


def repeated(
    rng: np.random.Generator,
    tokens: Sequence[int] | np.ndarray,
    *,
    n: int,
    length: int,
    periods: tuple[int, int],
) -> tuple[Int[Tensor, "sequence pos"], Bool[Tensor, "sequence step"]]:
    """`<bos>` and then random tokens repeated with a period drawn for each sequence.

    Args:
        tokens: Ids to draw from, uniformly.
        length: Tokens after `<bos>`.
        periods: Shortest and longest period, both included.

    Returns:
        Ids of shape (n, length + 1), and for each next-token prediction (n, length) whether its answer can be
        known by copying: the token follows one that has been seen a period ago.
    """
    period = rng.integers(periods[0], periods[1] + 1, n)[:, None]
    base = np.asarray(tokens)[rng.integers(0, len(tokens), (n, length))]
    steps = np.arange(length)[None, :]
    ids = np.take_along_axis(base, steps % period, axis=1)
    ids = np.concatenate([np.full((n, 1), BOS), ids], axis=1)
    return torch.from_numpy(ids), torch.from_numpy(steps > period)


def copying_loss(
    logits: Float[Tensor, "sequence pos d_vocab"], ids: Tensor, known: Tensor
) -> Float[Tensor, ""]:
    """Mean loss where the answer can be known, plus a tenth of the mean loss everywhere, in nats."""
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(
        known.shape
    )
    return (loss * known).sum() / known.sum() + 0.1 * loss.mean()


@torch.no_grad()
def copying_accuracy(
    logits_of: Logits,
    tokens: Sequence[int] | np.ndarray,
    *,
    n: int,
    length: int,
    periods: tuple[int, int],
    seed: int,
) -> float:
    """Return the share of copyable tokens of fresh repeated sequences that the model puts first."""
    ids, known = repeated(np.random.default_rng([seed, 99]), tokens, n=n, length=length, periods=periods)
    right = logits_of(ids)[:, :-1].argmax(-1) == ids[:, 1:]
    return (right & known).sum().item() / known.sum().item()


@torch.no_grad()
def induction_scores(
    patterns: Float[Tensor, "sequence head query key"], period: int
) -> tuple[Float[Tensor, " head"], Float[Tensor, " head"]]:
    """Mean attention from the second copy of a sequence of one period to the token after the first occurrence, and
    to the previous token: the prefix-matching and previous-token score of every head, each between 0 and 1.

    Source:
        Olsson et al. 2022, arXiv:2209.11895.
    """
    prefix = patterns.diagonal(offset=-(period - 1), dim1=-2, dim2=-1)[..., 2:]
    previous = patterns.diagonal(offset=-1, dim1=-2, dim2=-1)[..., 1:]
    return prefix.mean((0, 2)), previous.mean((0, 2))
