"""Prompts with one right next token each, asked in batches of equal length: what edits are trained and measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.core.errors import ModelError, ShapeError, TaskError
from workbench.model.hooks import hook_name
from workbench.model.outputs import require_words
from workbench.model.probe import wiring
from workbench.model.reading import require_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.edits.edit import ModelEdit

BATCH = 64  # prompts in one forward pass


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Prompts as token ids and the first token of each answer.

    Attributes:
        rows: Prompts, BOS included where the model wants it; lengths may differ.
        answers: One token for each prompt.
    """

    rows: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.answers) or not self.rows:
            raise ShapeError(
                f"{len(self.rows)} prompts and {len(self.answers)} answers; expected as many, one or more",
                hint="give one answer for each prompt, and at least one prompt",
            )

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, indices: Sequence[int]) -> Questions:
        """Return the questions at some indices, in that order."""
        return Questions(
            rows=tuple(self.rows[i] for i in indices), answers=tuple(self.answers[i] for i in indices)
        )

    def answered(self, model: TransformerBridge, edit: ModelEdit | None = None) -> np.ndarray:
        """Say which are answered rightly, under an edit if there is one: 1 or 0 for each."""
        with nullcontext() if edit is None else edit.on(model):
            return right_answers(model, self).double().numpy()

    def batches(
        self, device: torch.device, size: int = BATCH
    ) -> Iterator[tuple[list[int], Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]]:
        """Indices, ids and answers of up to ``size`` prompts of one length; every prompt once, nothing padded."""
        for length in sorted({len(row) for row in self.rows}):
            of_length = [i for i, row in enumerate(self.rows) if len(row) == length]
            for start in range(0, len(of_length), size):
                index = of_length[start : start + size]
                ids = torch.tensor([self.rows[i] for i in index], device=device)
                yield index, ids, torch.tensor([self.answers[i] for i in index], device=device)


def ask(model: TransformerBridge, prompts: Sequence[str], answers: Sequence[str]) -> Questions:
    """Return questions from texts; an answer follows its prompt after a space, its first token counts.

    Raises:
        TaskError: if prompt and answer grow together in this tokenizer, or a word is unknown to it or to the model.
        ModelError: if the model puts out no words.
    """
    require_words(model, "a question with a word for an answer")
    rows, firsts = [], []
    texts = [f"{prompt} {answer}" for prompt, answer in zip(prompts, answers, strict=True)]
    known = {text: model.to_tokens(text)[0].tolist() for text in {*prompts, *texts}}
    for prompt, answer, text in zip(prompts, answers, texts, strict=True):
        row, joined = known[prompt], known[text]
        if joined[: len(row)] != row or len(joined) == len(row):
            raise TaskError(
                f"the answer {answer!r} changes the tokens of its prompt {prompt!r}",
                hint="end the prompt before a space, and give the answer as a word of its own",
            )
        if model.tokenizer.unk_token_id is not None and model.tokenizer.unk_token_id in joined:
            raise TaskError(
                f"this tokenizer does not know every word of {prompt + ' ' + answer!r}",
                hint="use words of the model's vocabulary: model.tokenizer.get_vocab()",
            )
        require_tokens(model, joined[: len(row) + 1], f"{prompt + ' ' + answer!r}")
        rows.append(tuple(row))
        firsts.append(joined[len(row)])
    return Questions(rows=tuple(rows), answers=tuple(firsts))


def batch_loss(
    model: TransformerBridge, ids: Int[Tensor, "prompt pos"], answers: Int[Tensor, " prompt"]
) -> Float[Tensor, " prompt"]:
    """Return the cross-entropy of each answer's first token, in nats; can be differentiated."""
    return cross_entropy(model(ids)[:, -1], answers, reduction="none")


def losses(model: TransformerBridge, questions: Questions) -> Float[Tensor, " prompt"]:
    """Return the cross-entropy of every answer, in nats, in the order of the questions."""
    return _measured(model, questions)[0]


@torch.no_grad()
def _measured(model: TransformerBridge, questions: Questions) -> tuple[Tensor, Tensor]:
    """Loss of every answer, and whether it is the most likely token."""
    require_words(model, "a question with a word for an answer")
    require_tokens(model, torch.tensor(questions.answers)[:, None], "an answer")
    loss, right = torch.empty(len(questions)), torch.empty(len(questions), dtype=torch.bool)
    for index, ids, answers in questions.batches(next(model.parameters()).device):
        require_tokens(model, ids)
        logits = model(ids)[:, -1]
        loss[index] = cross_entropy(logits, answers, reduction="none").float().cpu()
        right[index] = logits.argmax(-1).eq(answers).cpu()
    return loss, right


def right_answers(model: TransformerBridge, questions: Questions) -> Bool[Tensor, " prompt"]:
    """Say whether the answer is the most likely of all tokens, for every question in order."""
    return _measured(model, questions)[1]


@torch.no_grad()
def head_outputs(
    model: TransformerBridge, rows: Sequence[Sequence[int]]
) -> Float[Tensor, "prompt layer head d_head"]:
    """Return every head's output ``z`` (before ``W_O``) at the last position of every prompt.

    Raises:
        ModelError: if the model has layers without heads whose output can be edited.
    """
    n_layers = editable_layers(model)
    questions = Questions(rows=tuple(tuple(row) for row in rows), answers=(0,) * len(rows))
    found: dict[int, Tensor] = {}
    for index, ids, _ in questions.batches(next(model.parameters()).device):
        seen: list[Tensor] = []
        hooks = [
            (
                hook_name("head-output", layer),
                lambda z, hook, seen=seen: seen.append(z[:, -1].detach().clone()),
            )
            for layer in range(n_layers)
        ]
        require_tokens(model, ids)
        with model.hooks(fwd_hooks=hooks):
            model(ids)
        for i, z in zip(index, torch.stack(seen, dim=1), strict=True):
            found[i] = z
    return torch.stack([found[i] for i in range(len(rows))])


def editable_layers(model: TransformerBridge) -> int:
    """Return the number of layers, all of which have heads with outputs that can be edited.

    Raises:
        ModelError: otherwise.
    """
    known = wiring(model)
    if "head-output" not in known.live or len(known.attention_layers) != known.n_layers:
        raise ModelError(
            "edits of head outputs do not reach the output of every layer of this model",
            hint="workbench model show NAME says which edits work; zoo:icl takes this one",
        )
    return known.n_layers
