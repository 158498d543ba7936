"""Training prompts of the tasks, made once, tokenised once, drawn in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedTokenizerFast

from workbench.tasks.registry import make_pairs
from workbench.training.vocabulary import BOS, PAD, UNK


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Prompts with one drawn answer each: ids (prompt, pos) padded at the end, and where the answer stands."""

    ids: np.ndarray
    answer_at: np.ndarray  # index of the answer token; -1 where the prompt has no answer
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def draw(self, rng: np.random.Generator, n: int) -> Batch:
        """``n`` prompts drawn with replacement, cut to the longest of them."""
        rows = rng.integers(0, len(self), n)
        longest = self.lengths[rows].max()
        return Batch(
            ids=torch.from_numpy(self.ids[rows, :longest]), answer_at=torch.from_numpy(self.answer_at[rows])
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A padded batch of prompts that end in their answers."""

    ids: Int[Tensor, "prompt pos"]
    answer_at: Int[Tensor, "prompt"]


def pool(
    task: str,
    tokenizer: PreTrainedTokenizerFast,
    *,
    n: int,
    seed: int,
    split: str = "train",
    corrupted: bool = False,
    corruption: str | None = None,
    **options: str | int | bool,
) -> Pool:
    """Prompts of a task followed by one of their correct answers, drawn uniformly.

    Args:
        corrupted: Take the corrupted prompts instead; they carry no answer.

    Raises:
        ValueError: if a prompt contains a word the tokenizer does not know.
    """
    pairs = make_pairs(task, n=n, seed=seed, split=split, corruption=corruption, distinct=False, **options)
    rng = np.random.default_rng([seed, n])
    texts = [p.corrupted if corrupted else p.clean + str(rng.choice(p.correct)) for p in pairs]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    if any(UNK in row for row in rows):
        bad = next(text for text, row in zip(texts, rows, strict=True) if UNK in row)
        raise ValueError(f"task {task!r} writes words that the vocabulary lacks: {bad!r}")
    lengths = np.array([len(row) + 1 for row in rows])
    ids = np.full((n, lengths.max()), PAD)
    ids[:, 0] = BOS
    for index, row in enumerate(rows):
        ids[index, 1 : len(row) + 1] = row
    answer_at = np.full(n, -1) if corrupted else lengths - 1
    return Pool(ids=ids, answer_at=answer_at, lengths=lengths)


def join(batches: Sequence[Batch]) -> Batch:
    """One batch of several, padded at the end to the longest."""
    longest = max(batch.ids.shape[1] for batch in batches)
    ids = [pad(batch.ids, (0, longest - batch.ids.shape[1]), value=PAD) for batch in batches]
    return Batch(ids=torch.cat(ids), answer_at=torch.cat([batch.answer_at for batch in batches]))


def weighted_loss(
    logits: Float[Tensor, "prompt pos d_vocab"], batch: Batch, *, text: float
) -> Float[Tensor, ""]:
    """Mean loss of the answer tokens plus ``text`` times the mean loss of all other tokens, in nats."""
    targets = batch.ids[:, 1:].clone()
    rows = (batch.answer_at > 0).nonzero().squeeze(1)
    columns = batch.answer_at[rows] - 1
    answers = targets[rows, columns]
    targets[rows, columns] = PAD
    loss = text * cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=PAD)
    return loss + cross_entropy(logits[rows, columns], answers) if len(rows) else loss


@torch.no_grad()
def answer_accuracy(
    logits_of, pairs, tokenizer: PreTrainedTokenizerFast, *, among: Sequence[str] = ()
) -> float:
    """Share of pairs whose clean prompt gets a correct answer as the single most likely token of the whole vocabulary.

    Args:
        among: Only these words compete, if given.
    """
    prompts = [
        [BOS, *row] for row in tokenizer([p.clean for p in pairs], add_special_tokens=False)["input_ids"]
    ]
    allowed = torch.tensor(tokenizer.convert_tokens_to_ids([w.strip() for w in among])) if among else None
    right = 0
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        logits = logits_of(torch.tensor([prompts[i] for i in rows]))[:, -1]
        top = logits.argmax(-1) if allowed is None else allowed[logits[:, allowed].argmax(-1)]
        for i, token in zip(rows, top.tolist(), strict=True):
            right += token in {tokenizer.convert_tokens_to_ids(a.strip()) for a in pairs[i].correct}
    return right / len(prompts)
