"""Training on prompts of many tasks at once, with repeated random words beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.tasks.registry import vocabulary
from workbench.training.drills import argument_lists, lookups
from workbench.training.loop import Fit, fit
from workbench.training.pools import (
    Pool,
    join,
    shifted_positions,
    task_pool,
    weighted_loss,
)
from workbench.training.repeats import copying_loss, repeated
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import N_SPECIAL

CONTEXT = 72  # the longest prompt has 66 tokens


REPEATS = 16  # sequences of repeated random words in every step


TEXT = 0.1  # weight of a prompt's own words against its answer


SHIFTED = 0.5  # share of prompts that stand somewhere else in the context than at its beginning


class PromptSource(Protocol):
    """A part of the mixture: it makes its prompts, and a step draws ``share`` of them."""

    @property
    def share(self) -> int: ...

    def pool(self, tokenizer: PreTrainedTokenizerFast, *, seed: int, n: int | None = None) -> Pool: ...


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """A task in the mixture: how many prompts of it a step draws, and with which options."""

    task: str
    share: int
    size: int = 8000
    corruption: str | None = None
    corrupted: bool = False
    reworded: float = 0.0
    options: tuple[tuple[str, str | int | bool], ...] = ()

    def pool(self, tokenizer: PreTrainedTokenizerFast, *, seed: int, n: int | None = None) -> Pool:
        """Return its prompts; ``n`` overrides how many."""
        n = n or self.size
        if self.task == "lookups":
            return lookups(tokenizer, vocabulary(), n=n, seed=seed)
        if self.task == "argument-lists":
            return argument_lists(tokenizer, n=n, seed=seed)
        options: dict[str, Any] = {
            "corruption": self.corruption,
            "corrupted": self.corrupted,
            **dict(self.options),
        }
        if self.reworded:
            options |= {"reworded": self.reworded, "neutral": NEUTRAL}
        return task_pool(self.task, tokenizer, n=n, seed=seed, **options)


NEUTRAL = tuple(
    "a an and at because came day desk floor for found friends from good had house I in is it late later left "
    "long office old on On really see So table the The Then there There to Today was went were when When While "
    "year Yesterday you Q What color , . ?".split()
)


def learn_mixture(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    groups: Sequence[Sequence[PromptSource]],
    *,
    seed: int,
    steps: int,
    rate: float,
    decay: float = 0.0,
    until: float | None = None,
    watch: Callable[[int], str] | None = None,
    checkpoint: Path | None = None,
    small: int | None = None,
) -> Fit:
    """Train on groups of prompts, and on repeated random words beside them so that copying is not forgotten.

    Args:
        rate: Learning rate of the matrices; the embeddings take a seventh of it.
        until: End early when this share of the last group's answers is right.
        small: Size of every pool, for tests.
    """
    pools = [
        [
            (part.share, part.pool(tokenizer, seed=seed + 100 * index, n=small))
            for index, part in enumerate(parts)
        ]
        for parts in groups
    ]
    words = np.arange(N_SPECIAL, len(tokenizer))
    recent: list[float] = []

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, len(pools), step])
        ids, known = repeated(rng, words, n=REPEATS, length=47, periods=(6, 24))
        places = shifted_positions(ids, rng, context=CONTEXT, share=SHIFTED)
        losses = [REPEATS * copying_loss(model(ids, position_ids=places).logits, ids, known)]
        for group in pools:
            batch = join([pool.draw(rng, share) for share, pool in group])
            places = shifted_positions(batch.ids, rng, context=CONTEXT, share=SHIFTED)
            logits = model(batch.ids, position_ids=places).logits
            losses.append(len(batch.ids) * weighted_loss(logits, batch, text=TEXT))
        mask = batch.is_answer[:, 1:]
        recent.append((logits[:, :-1].argmax(-1) == batch.ids[:, 1:])[mask].float().mean().item())
        return reduce(add, losses) / (REPEATS + sum(share for group in pools for share, _ in group))

    def told(step: int) -> str:
        return f"last group {np.mean(recent[-50:]):.3f} {'' if watch is None else watch(step)}"

    return fit(
        model,
        loss_of_step,
        optimisers=mixed_optimisers(model, lr=rate, outer_lr=rate / 7),
        steps=steps,
        warmup=50,
        decay=decay,
        every=50,
        watch=told,
        stop=None if until is None else lambda step: bool(np.mean(recent[-50:]) >= until),
        checkpoint=checkpoint,
    )
