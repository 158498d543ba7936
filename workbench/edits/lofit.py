"""Localised fine-tuning: which heads to change is learned by scaling them all, then a few get a learned offset.

``z[l, h] <- (1 + a[l, h]) * z[l, h] + v[l, h]`` at all positions, the model frozen. Step 1 trains ``a`` alone, of all
heads, with an L1 penalty, and ranks heads by its norm. Step 2 forgets ``a`` and trains ``v`` of the best ``K`` heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.core.stats.agreement import jaccard
from workbench.core.stats.permutation import within_and_between
from workbench.edits.affine import Affine
from workbench.edits.questions import Questions, editable_layers, losses

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Objective = Callable[[Float[Tensor, "prompt pos d_vocab"], Sequence[int]], Float[Tensor, ""]]
"""Loss of the logits of the questions at some indices; without one, cross-entropy of the answer's first token."""


class Holds(Protocol):
    """A change of a model that holds inside ``with change.on(model):``."""

    def on(self, model: TransformerBridge) -> AbstractContextManager: ...


START = 1e-3  # standard deviation of a and v at the start, as in the paper


@dataclass(frozen=True, kw_only=True)
class LofitStep:
    """How one step is trained; the paper: batch 8, 5 epochs, lr 5e-4 to 5e-3 for ``a``, 1e-2 for ``v``.

    Attributes:
        penalty: Weight of the sum of absolute values.
        every: Steps between measurements on validation prompts, where there are any; the best is kept.
    """

    steps: int = 200
    lr: float = 1e-2
    batch: int = 8
    penalty: float = 0.0
    every: int = 25

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.every) < 1 or not self.lr > 0 or self.penalty < 0:
            raise OptionError(
                f"{self}; expected steps, batch, every and lr above 0, and a penalty of at least 0",
                hint="steps=50, batch=8, every=10, lr=0.01, penalty=0",
            )


SCALES = LofitStep(lr=5e-3, penalty=5e-4)
OFFSETS = LofitStep()


@dataclass(frozen=True, kw_only=True, eq=False)
class Localised:
    """What step 1 found.

    Attributes:
        heads: All heads, the largest ``||a||`` first; equal ones in the model's order.
        norms: ``||a||`` of these heads.
    """

    heads: tuple[str, ...]
    norms: tuple[float, ...]

    def top(self, k: int) -> tuple[str, ...]:
        """Return the first ``k`` heads."""
        return self.heads[:k]

    def unlike(self, heads: Sequence[str]) -> tuple[str, ...]:
        """Return as many of the first heads, none of these: what two choices share cannot tell them apart."""
        return tuple(head for head in self.heads if head not in heads)[: len(heads)]


def localise(
    model: TransformerBridge,
    training: Questions,
    *,
    options: LofitStep = SCALES,
    objective: Objective | None = None,
    seed: int = 0,
) -> Localised:
    """Step 1: train a scale for every dimension of every head, rank the heads by its norm.

    The norm measures how far a head's output is scaled, not what the head does: a head with small outputs can have a
    large norm.

    Source:
        Yin, Ye and Durrett 2024, "LoFiT: Localized Fine-tuning on LLM Representations", arXiv:2406.01563.
    """
    heads = all_heads(model)
    start = _start(model, len(heads), seed)
    one, zero = torch.ones_like(start[:, :1]), torch.zeros_like(start[:, :1])

    def edit(scale: Tensor) -> Affine:
        return Affine(heads=heads, a=one + scale, b=zero)

    train = partial(train_edit, model, training, options=options, objective=objective, seed=seed)
    norms = train(value=start, edit=edit).norm(dim=1)
    order = norms.argsort(descending=True, stable=True).tolist()
    return Localised(heads=tuple(heads[i] for i in order), norms=tuple(float(norms[i]) for i in order))


def train_offsets(
    model: TransformerBridge,
    training: Questions,
    *,
    heads: Sequence[str],
    validation: Questions | None = None,
    options: LofitStep = OFFSETS,
    objective: Objective | None = None,
    seed: int = 0,
) -> Affine:
    """Step 2: the edit that adds a trained offset to some heads at all positions.

    Args:
        validation: With it, the best offsets on these questions are kept; without, the last.

    Source:
        Yin, Ye and Durrett 2024, "LoFiT: Localized Fine-tuning on LLM Representations", arXiv:2406.01563.
    """
    start = _start(model, len(heads), seed)
    one = torch.ones_like(start[:, :1])

    def edit(offset: Tensor) -> Affine:
        return Affine(heads=tuple(heads), a=one, b=offset)

    train = partial(train_edit, model, training, options=options, objective=objective, seed=seed)
    return edit(train(value=start, edit=edit, validation=validation))


def all_heads(model: TransformerBridge) -> tuple[str, ...]:
    """Return every head, layer by layer."""
    return tuple(f"a{i}.h{j}" for i in range(editable_layers(model)) for j in range(model.cfg.n_heads))


def _start(model: TransformerBridge, n: int, seed: int) -> Float[Tensor, "head d_head"]:
    like = next(model.parameters())
    drawn = torch.randn((n, model.cfg.d_head), generator=torch.Generator().manual_seed(seed))
    return (drawn * START).to(like)


def train_edit(
    model: TransformerBridge,
    training: Questions,
    *,
    value: Tensor,
    edit: Callable[[Tensor], Holds],
    options: LofitStep,
    validation: Questions | None = None,
    objective: Objective | None = None,
    seed: int = 0,
) -> Tensor:
    """Train one tensor through the edit that is made of it, with Adam, the model frozen.

    Returns:
        The last value, or the best on validation questions where there are any.
    """
    value = value.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([value], lr=options.lr)
    rng = np.random.default_rng([seed, options.steps])
    best, lowest = value.detach().clone(), float("inf")
    for step in range(1, options.steps + 1):
        index = rng.choice(len(training), size=min(options.batch, len(training)), replace=False).tolist()
        with torch.enable_grad():
            total = _loss(model, training, index, objective, edit(value))
            (value.grad,) = torch.autograd.grad(total + options.penalty * value.abs().sum(), [value])
        optimiser.step()
        if validation is not None and (step % options.every == 0 or step == options.steps):
            with edit(value.detach()).on(model):
                found = float(losses(model, validation).mean())
            if found < lowest:
                best, lowest = value.detach().clone(), found
    return best if validation is not None else value.detach()


def _loss(
    model: TransformerBridge,
    questions: Questions,
    index: Sequence[int],
    objective: Objective | None,
    edit: Holds,
) -> Float[Tensor, ""]:
    """Mean loss of the drawn questions under an edit."""
    total = torch.zeros((), device=next(model.parameters()).device)
    with edit.on(model):
        for rows, ids, answers in questions.subset(index).batches(total.device):
            logits = model(ids)
            if objective is None:
                total = total + cross_entropy(logits[:, -1], answers, reduction="sum") / len(index)
            else:
                total = total + objective(logits, [index[i] for i in rows]) * (len(rows) / len(index))
    return total


class SharedChoices(NamedTuple):
    """How much several choices of heads share, some of which are of one task.

    Attributes:
        shared: Jaccard of each two choices, in order.
        tasks: The number of each choice's task.
        within, between: Mean of two choices of one task, and of two tasks.
        rows: One row per choice: its task, its heads, and how many of them the next task chose, too.
    """

    shared: list[list[float]]
    tasks: list[int]
    within: float
    between: float
    rows: Rows


def share_choices(choices: Mapping[str, Sequence[Sequence[str]]]) -> SharedChoices:
    """Say how much any two choices of heads share.

    Args:
        choices: By task, the heads of each choice; as many choices of each task.

    Example:
        >>> found = share_choices({"a": [["a0.h0"], ["a0.h0"]], "b": [["a0.h1"], ["a0.h0"]]})
        >>> found.tasks, found.within, found.between
        ([0, 0, 1, 1], 0.5, 0.5)
    """
    runs = [heads for own in choices.values() for heads in own]
    tasks = [i for i, own in enumerate(choices.values()) for _ in own]
    shared = [[jaccard(here, there) for there in runs] for here in runs]
    within, between = within_and_between(np.array(shared), tasks)
    each = tasks.count(0)
    after = runs[each:] + runs[:each]
    rows: Rows = [
        {"task": list(choices)[task], "heads": ", ".join(heads), "shared": len({*heads} & {*other})}
        for task, heads, other in zip(tasks, runs, after, strict=True)
    ]
    return SharedChoices(shared, tasks, within, between, rows)


def all_parameters(model: TransformerBridge) -> int:
    """Return numbers of the whole model, shared ones once."""
    return sum(p.numel() for p in model.parameters())
