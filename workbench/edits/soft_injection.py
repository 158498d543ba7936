"""A task as a mix of head outputs: means over few-shot prompts, put into zero-shot prompts by learned weights.

``z[l, h] <- (1 - alpha[l, h]) z[l, h] + alpha[l, h] t[l, h]`` at the last prompt position, where ``t`` is the mean head
output after prompts that show the task and ``alpha = sigmoid(omega)`` is learned on prompts that do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.edits.affine import Affine
from workbench.edits.questions import Questions, batch_loss, head_outputs, losses
from workbench.model.hooks import hook_name, output_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Embedding = Float[Tensor, "layer head d_head"]
Mix = Float[Tensor, "layer head"]


def task_embedding(model: TransformerBridge, prompts: Sequence[Sequence[int]]) -> Embedding:
    """Mean output of every head at the last position of few-shot prompts (token ids).

    Source:
        Park and Rhee 2025, "Soft Injection of Task Embeddings Outperforms Prompt-Based In-Context Learning".
    """
    return head_outputs(model, prompts).mean(0)


def injection(embedding: Embedding, alpha: Mix, *, prompt_end: int = -1) -> Affine:
    """Return the edit that mixes an embedding into the head outputs at the end of the prompt.

    Args:
        alpha: Share of the embedding, 0 to 1; may require a gradient.
        prompt_end: Position of the last prompt token; give it when answer tokens already stand after it.

    Raises:
        ShapeError: if alpha is not of the embedding's heads.
    """
    if tuple(embedding.shape[:2]) != tuple(alpha.shape):
        raise ShapeError(
            f"alpha has shape {tuple(alpha.shape)}; expected (layer, head) {tuple(embedding.shape[:2])}",
            hint="give one number for each layer and head of the embedding",
        )
    n_layers, n_heads, d_head = embedding.shape
    heads = tuple(f"a{layer}.h{head}" for layer in range(n_layers) for head in range(n_heads))
    share = alpha.reshape(-1, 1)
    target = embedding.reshape(-1, d_head)
    return Affine(heads=heads, a=1 - share, b=share * target, positions=(prompt_end,))


@dataclass(frozen=True, kw_only=True)
class SoftMix:
    """How the mix is learned; the defaults are the paper's.

    Attributes:
        batch: Prompts in each step.
        every: Steps between measurements on the validation prompts; the best mix measured is kept.
        sparsity: Weight of the mean of alpha in the loss; without it, heads that do not matter stay at 0.5.
    """

    steps: int = 400
    lr: float = 0.2
    batch: int = 1
    every: int = 50
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.every) < 1 or not self.lr > 0 or self.sparsity < 0:
            raise OptionError(
                f"{self}; expected steps, batch, every and lr above 0, and a sparsity of at least 0",
                hint="steps=40, batch=8, every=10, lr=0.01, sparsity=0",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """A learned mix.

    Attributes:
        alpha: At the best validation loss.
        last: After the last step; what the released code keeps.
        step: Where that was.
        history: (step, validation loss in nats).
    """

    alpha: Mix
    last: Mix
    step: int
    history: tuple[tuple[int, float], ...]


def learn_mix(
    model: TransformerBridge,
    embedding: Embedding,
    *,
    training: Questions,
    validation: Questions,
    options: SoftMix | None = None,
    seed: int = 0,
) -> Mixed:
    """Learn alpha on zero-shot prompts, starting from 0.5 everywhere; the best on validation prompts is kept.

    The released code never stores its best validation loss and so keeps the last mix; this keeps the best, as the
    paper says.

    Source:
        Park and Rhee 2025, "Soft Injection of Task Embeddings Outperforms Prompt-Based In-Context Learning".
    """
    options = options or SoftMix()
    omega = torch.zeros(embedding.shape[:2], device=embedding.device, requires_grad=True)
    optimiser = torch.optim.Adam([omega], lr=options.lr)
    rng = np.random.default_rng([seed, options.steps])
    history: list[tuple[int, float]] = []
    best: Mix = omega.detach().sigmoid()
    for step in range(options.steps + 1):
        if step % options.every == 0 or step == options.steps:
            alpha = omega.detach().sigmoid()
            found = mix_loss(model, embedding, alpha, validation)
            best = alpha if all(found < loss for _, loss in history) else best
            history.append((step, found))
        if step < options.steps:
            index = rng.choice(len(training), size=min(options.batch, len(training)), replace=False)
            omega.grad = _gradient(model, embedding, omega, training.subset(index.tolist()), options.sparsity)
            optimiser.step()
    at = min(history, key=lambda one: one[1])[0]
    return Mixed(alpha=best, last=omega.detach().sigmoid(), step=at, history=tuple(history))


@torch.enable_grad()
def _gradient(model, embedding: Embedding, omega: Tensor, questions: Questions, sparsity: float) -> Tensor:
    """Gradient of the mean answer loss and of the sparsity term with respect to omega."""
    alpha = omega.sigmoid()
    total = sparsity * alpha.mean()
    with injection(embedding, alpha).on(model):
        for _, ids, answers in questions.batches(embedding.device):
            total = total + batch_loss(model, ids, answers).sum() / len(questions)
    return torch.autograd.grad(total, [omega])[0]


def mix_loss(model: TransformerBridge, embedding: Embedding, alpha: Mix, questions: Questions) -> float:
    """Mean cross-entropy of the answers under a mix, in nats."""
    with injection(embedding, alpha).on(model):
        return float(losses(model, questions).mean())


# -- what it is compared with -------------------------------------------------------------------------------


def single_effects(model: TransformerBridge, embedding: Embedding, questions: Questions) -> Mix:
    """Say how much each head's embedding alone, in full, lowers the mean answer loss, in nats; positive helps."""
    n_layers, n_heads, _ = embedding.shape
    before = float(losses(model, questions).mean())
    found = torch.zeros(n_layers, n_heads)
    for layer in range(n_layers):
        for head in range(n_heads):
            alpha = torch.zeros_like(found)
            alpha[layer, head] = 1.0
            found[layer, head] = before - mix_loss(model, embedding, alpha.to(embedding), questions)
    return found.to(embedding)


def hardest(scores: Mix, k: int) -> Mix:
    """Return a mix of 1 for the ``k`` heads with the largest scores and 0 for the others; ties go to the earlier
    head.
    """
    order = scores.flatten().argsort(descending=True, stable=True)[:k]
    return torch.zeros_like(scores).flatten().index_fill(0, order, 1.0).view_as(scores)


def near_ends(alpha: Mix, *, within: float = 0.1) -> float:
    """Return the share of alphas within a distance of 0 or of 1."""
    return float(((alpha <= within) | (alpha >= 1 - within)).float().mean())


def function_vector(
    model: TransformerBridge, embedding: Embedding, heads: Sequence[tuple[int, int]]
) -> Float[Tensor, " d_model"]:
    """Return the sum of what some heads' mean outputs write to the residual stream; to be added at the last
    position.

    Source:
        Todd et al. 2024, "Function Vectors in Large Language Models", arXiv:2310.15213.
    """
    parts = [
        embedding[layer, head] @ output_matrix(model, layer)[head].to(embedding) for layer, head in heads
    ]
    return torch.stack(parts).sum(0)


@contextmanager
def vector_added(
    model: TransformerBridge, vector: Float[Tensor, " d_model"], *, layer: int
) -> Iterator[TransformerBridge]:
    """Inside, a vector is added to what enters a block, at the last position of every forward pass."""

    def add(x: Tensor, hook) -> Tensor:
        return torch.cat([x[:, :-1], x[:, -1:] + vector.to(x)], dim=1)

    with model.hooks(fwd_hooks=[(hook_name("resid", layer), add)]):
        yield model


def hard_choice(
    model: TransformerBridge,
    embedding: Embedding,
    effects: Mix,
    validation: Questions,
    *,
    counts: Sequence[int] = (1, 2, 4, 8, 16),
) -> Mix:
    """Return the heads with the largest single effects, as many as do best on validation prompts."""
    choices = [hardest(effects, k) for k in counts if k <= effects.numel()]
    return min(choices, key=lambda alpha: mix_loss(model, embedding, alpha, validation))


@contextmanager
def best_vector_added(
    model: TransformerBridge, embedding: Embedding, effects: Mix, validation: Questions, *, heads: int = 4
) -> Iterator[TransformerBridge]:
    """Inside, the function vector of the heads with the largest effects is added where validation prompts do best."""
    order = effects.flatten().argsort(descending=True, stable=True)[:heads].tolist()
    vector = function_vector(model, embedding, [divmod(i, effects.shape[1]) for i in order])

    def lost(layer: int) -> float:
        with vector_added(model, vector, layer=layer):
            return float(losses(model, validation).mean())

    with vector_added(model, vector, layer=min(range(effects.shape[0]), key=lost)):
        yield model
