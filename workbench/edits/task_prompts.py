"""A task seen through three sets of words that never meet: for its embedding and mix, to choose, to report.

Embeddings and mixes, the choice among them, and the numbers reported each have words of their own. The examples before
a test question show words of the first two sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import TaskError
from workbench.edits.questions import Questions, ask
from workbench.edits.soft_injection import Embedding, task_embedding
from workbench.tasks.mappings import SIZE, MappingTask, Shots, draw_shots, find_mapping

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True)
class Split:
    """Places of words: for embeddings and training, for validation, for the numbers reported."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def drawn(cls, seed: int, *, training: int = 10, validation: int = 5) -> Split:
        """Return a split of the words of every kind by their place; the rest is for the test."""
        order = np.random.default_rng([seed, SIZE]).permutation(SIZE).tolist()
        cut = training + validation
        return cls(
            training=tuple(order[:training]), validation=tuple(order[training:cut]), test=tuple(order[cut:])
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """One task's prompts.

    Attributes:
        training, validation: Without examples.
        test, shown: The same test questions without examples, and after examples.
        words: The inputs of the test questions.
        embedding: Mean head outputs after many prompts with examples, of training words alone.
        single: The first of these prompts.
    """

    task: MappingTask
    training: Questions
    validation: Questions
    test: Questions
    shown: Questions
    words: tuple[str, ...]
    embedding: Embedding
    single: tuple[tuple[int, ...], ...]


def prompts_of(
    model: TransformerBridge,
    task: str,
    split: Split,
    *,
    shots: int,
    n: int,
    n_test: int,
    wrong: float = 0.0,
    seed: int = 0,
) -> Prompts:
    """Draw a task's prompts and take its embedding from ``n`` of them.

    Args:
        wrong: Probability that an example misleads.
    """
    seen = (*split.training, *split.validation)

    def drawn(places: Sequence[int], n: int, k: int, part: int, shown: Sequence[int]) -> tuple[Shots, ...]:
        return draw_shots(task, n, shots=k, seed=4 * seed + part, places=places, shown=shown, wrong=wrong)

    test = drawn(split.test, n_test, shots, 2, seen)
    examples = drawn(split.training, n, shots, 3, split.training)
    rows = ask(model, [p.text for p in examples], [p.answer for p in examples]).rows
    return Prompts(
        task=find_mapping(task),
        training=_bare(model, drawn(split.training, 4 * len(split.training), 0, 0, split.training)),
        validation=_bare(model, drawn(split.validation, 4 * len(split.validation), 0, 1, split.validation)),
        test=_bare(model, test),
        shown=ask(model, [p.text for p in test], [p.answer for p in test]),
        words=tuple(p.question for p in test),
        embedding=task_embedding(model, rows),
        single=rows[:1],
    )


def _bare(model: TransformerBridge, shots: Sequence[Shots]) -> Questions:
    return ask(model, [p.zero_shot for p in shots], [p.answer for p in shots])


def scrambled(embedding: Embedding, *, seed: int) -> Float[Tensor, "layer head d_head"]:
    """Return random vectors, each as long as the head's own embedding: the size without the content."""
    drawn = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(seed)).to(embedding)
    return drawn / drawn.norm(dim=-1, keepdim=True) * embedding.norm(dim=-1, keepdim=True)


def unlike(drawn: Sequence[Prompts], i: int) -> Prompts:
    """Return the next task that gives words of another kind, one of as many words if there is one."""
    turned, own = [*drawn[i + 1 :], *drawn[:i]], drawn[i].task
    other = [prompts for prompts in turned if prompts.task.gives != own.gives] or turned
    alike = [prompts for prompts in other if (prompts.task.inputs == "three") == (own.inputs == "three")]
    return (alike or other)[0]


def similar_groups(drawn: Sequence[Prompts]) -> list[int]:
    """Return for each task the number of the first one that is similar to it, maybe itself.

    Similar tasks give words of one kind (`MappingTask.similar`).
    """
    tasks = [prompts.task for prompts in drawn]
    return [next(i for i, one in enumerate(tasks) if one.similar(task)) for task in tasks]


def asked_as(model: TransformerBridge, prompts: Prompts, other: Prompts) -> Questions | None:
    """Return the test questions of a task with the answers that another task would give, those that it has an
    answer to.
    """
    rows, answers = [], []
    for word, row in zip(prompts.words, prompts.test.rows, strict=True):
        try:
            wanted = prompts.task.turned(other.task.gives, word)
        except TaskError:
            continue
        rows.append(row)
        answers.append(int(model.to_tokens(f"{word} {wanted}")[0][-1]))
    return Questions(rows=tuple(rows), answers=tuple(answers)) if rows else None
