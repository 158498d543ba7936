"""A classifier with one attention whose scores are pushed while it trains: adversarial training of attention (AT, iAT).

The classifier reads words, gives each a score, and mixes the words by the softmax of the scores. AT adds the loss with
scores pushed by a step of length ``eps`` along the slope of the loss. iAT pushes along differences from the scores of
the other texts of the batch, each weighted by how much it would raise the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError

Scores = Float[Tensor, "text pos"]
Kind = Literal["plain", "AT", "iAT", "random"]


class AttentionClassifier(nn.Module):
    """Words, each with its neighbors, mixed by attention with additive scores; classes from the mixture.

    Args:
        words: Different words.
        classes: What is chosen among.
        width: Of embeddings and hidden states.
        seed: Of the start.
    """

    def __init__(self, words: int, classes: int, *, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.near = nn.Conv1d(width, width, 3, padding=1)
        self.key, self.ask = nn.Linear(width, width), nn.Linear(width, 1, bias=False)
        self.out = nn.Linear(width, classes)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.0
                weight.copy_(scale * torch.randn(weight.shape, generator=draw))

    def hidden(self, embedded: Float[Tensor, "text pos width"]) -> Float[Tensor, "text pos width"]:
        """Return what stands at every word after its neighbors were read."""
        return torch.tanh(self.near(embedded.mT).mT)

    def scores(self, hidden: Float[Tensor, "text pos width"]) -> Scores:
        """Return the score of every word before the softmax."""
        return self.ask(torch.tanh(self.key(hidden)))[..., 0]

    def classify(
        self, hidden: Float[Tensor, "text pos width"], scores: Scores
    ) -> Float[Tensor, "text class"]:
        """Return logits of the mixture by these scores."""
        return self.out((scores.softmax(-1)[..., None] * hidden).sum(1))

    def forward(self, ids: Int[Tensor, "text pos"]) -> Float[Tensor, "text class"]:
        """Return logits."""
        hidden = self.hidden(self.embed(ids))
        return self.classify(hidden, self.scores(hidden))


def along_slope(slope: Scores, eps: float) -> Scores:
    """Return the step of length ``eps`` that raises the loss most, to first order; 0 where the slope is 0.

    Example:
        >>> along_slope(torch.tensor([[3.0, -4.0]]), 0.5).tolist()
        [[0.30000001192092896, -0.4000000059604645]]
    """
    size = slope.norm(dim=-1, keepdim=True)
    return eps * slope / torch.where(size > 0, size, 1)


def along_differences(scores: Scores, slope: Scores, eps: float) -> Scores:
    """Return a step along the differences from the other texts' scores, weighted by what each adds to the loss.

    ``r = eps sum_j w_j d_j``, where ``d_j`` is the unit difference from text j and ``w`` the unit vector of the slopes
    along them.

    Source:
        Kitada and Iyatomi 2020; between the texts of a batch, as in their code.
    """
    apart = scores[None, :] - scores[:, None]  # (text, other, pos)
    size = apart.norm(dim=-1, keepdim=True)
    unit = apart / torch.where(size > 0, size, 1)
    worth = torch.einsum("ijp,ip->ij", unit, slope)
    whole = worth.norm(dim=-1, keepdim=True)
    return eps * torch.einsum("ij,ijp->ip", worth / torch.where(whole > 0, whole, 1), unit)


@dataclass(frozen=True, kw_only=True)
class AttentionTraining:
    """How a classifier is trained.

    Attributes:
        kind: What pushes the scores: nothing, their slope, differences, or a random direction.
        eps: Length of the step.
    """

    kind: Kind = "plain"
    eps: float = 0.0
    steps: int = 100
    batch: int = 32
    rate: float = 1e-2

    def __post_init__(self) -> None:
        if (self.kind == "plain") != (self.eps == 0):
            raise OptionError(
                f"kind is {self.kind} and eps {self.eps}; plain has eps 0, the others one above 0",
                hint="eps=0" if self.kind == "plain" else "eps=1.0",
            )


def fit_classifier(
    ids: Int[Tensor, "text pos"],
    labels: Int[Tensor, " text"],
    training: AttentionTraining,
    *,
    words: int,
    classes: int,
    seed: int = 0,
) -> AttentionClassifier:
    """Train a classifier; those of one seed start alike and see the same batches.

    Returns:
        The classifier, in evaluation mode, without gradients.
    """
    model = AttentionClassifier(words, classes, seed=seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=training.rate)
    order, noise = np.random.default_rng([seed, 19]), torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(training.steps):
            rows = torch.from_numpy(order.choice(len(ids), training.batch, replace=False))
            hidden = model.hidden(model.embed(ids[rows]))
            scores = model.scores(hidden)
            loss = F.cross_entropy(model.classify(hidden, scores), labels[rows])
            if training.kind != "plain":
                (slope,) = torch.autograd.grad(loss, scores, retain_graph=True)
                push = _push(training, scores.detach(), slope, noise)
                loss = loss + F.cross_entropy(model.classify(hidden, scores + push), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval().requires_grad_(False)


def _push(training: AttentionTraining, scores: Scores, slope: Scores, noise: torch.Generator) -> Scores:
    if training.kind == "iAT":
        return along_differences(scores, slope, training.eps)
    if training.kind == "random":
        slope = torch.randn(slope.shape, generator=noise)
    return along_slope(slope, training.eps)


@dataclass(frozen=True, kw_only=True)
class TextAnswers:
    """What a classifier does on texts, one value for each.

    Attributes:
        right: 1 where it answers rightly.
        loss: Of the right class, in nats; ``attacked`` with its scores pushed along their slope.
        agreement: Pearson correlation of attention with the norms of the loss's slopes along the words.
    """

    right: np.ndarray
    loss: np.ndarray
    attacked: np.ndarray
    agreement: np.ndarray


def read_classifier(
    model: AttentionClassifier,
    ids: Int[Tensor, "text pos"],
    labels: Int[Tensor, " text"],
    *,
    eps: float = 1.0,
) -> TextAnswers:
    """Measure answers, the loss under attack, and how attention agrees with slopes along words."""

    def each(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    with torch.enable_grad():
        embedded = model.embed(ids).detach().requires_grad_()
        hidden = model.hidden(embedded)
        scores = model.scores(hidden)
        logits = model.classify(hidden, scores)
        loss = each(logits)
        words, slope = torch.autograd.grad(loss.sum(), [embedded, scores])
    with torch.no_grad():
        attacked = each(model.classify(hidden, scores + along_slope(slope, eps)))
        weights, sizes = scores.softmax(-1), words.norm(dim=-1)
        a, b = (x - x.mean(-1, keepdim=True) for x in (weights, sizes))
        agreement = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-12)
    right = (logits.argmax(-1) == labels).double()
    found = (x.detach().double().numpy() for x in (right, loss, attacked, agreement))
    return TextAnswers(**dict(zip(("right", "loss", "attacked", "agreement"), found, strict=True)))
