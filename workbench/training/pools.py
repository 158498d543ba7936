"""Training prompts of the tasks, made once, tokenised once, drawn in padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import OptionError
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import make_pairs
from workbench.training.rewording import reword
from workbench.training.vocabulary import BOS, PAD, UNK

Logits = Callable[[Tensor], Tensor]
"""Token ids (prompt, pos) to logits (prompt, pos, d_vocab)."""


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """Prompts padded at the end, and which of their tokens are answers."""

    ids: Int[Tensor, "prompt pos"]
    is_answer: Bool[Tensor, "prompt pos"]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Many prompts to draw from."""

    ids: np.ndarray
    is_answer: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def draw(self, rng: np.random.Generator, n: int) -> PromptBatch:
        """Return ``n`` prompts drawn with replacement, cut to the longest of them."""
        rows = rng.integers(0, len(self), n)
        longest = self.lengths[rows].max()
        ids, is_answer = self.ids[rows, :longest], self.is_answer[rows, :longest]
        return PromptBatch(ids=torch.from_numpy(ids), is_answer=torch.from_numpy(is_answer))


def pool_of(rows: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Pool:
    """Return a pool of token rows without `<bos>`, and at which places of each row its answers stand."""
    lengths = np.array([len(row) + 1 for row in rows])
    ids = np.full((len(rows), lengths.max()), PAD)
    is_answer = np.zeros(ids.shape, dtype=bool)
    ids[:, 0] = BOS
    for index, (row, places) in enumerate(zip(rows, answers, strict=True)):
        ids[index, 1 : len(row) + 1] = row
        is_answer[index, [place + 1 for place in places]] = True
    return Pool(ids=ids, is_answer=is_answer, lengths=lengths)


def task_pool(
    task: str,
    tokenizer: PreTrainedTokenizerFast,
    *,
    n: int,
    seed: int,
    corruption: str | None = None,
    corrupted: bool = False,
    reworded: float = 0.0,
    neutral: Sequence[str] = (),
    **options: str | int | bool,
) -> Pool:
    """Return prompts of a task's train split, each followed by one of its correct answers, drawn uniformly.

    What follows "A:" inside a prompt (the answers of worked examples) counts as an answer too.

    Args:
        corrupted: Take the corrupted prompts instead; they carry no answer.
        reworded: Share of the prompts whose ``neutral`` words are changed a little.
    """
    pairs = make_pairs(task, n=n, seed=seed, split="train", corruption=corruption, distinct=False, **options)
    rng = np.random.default_rng([seed, n])
    texts = [p.corrupted if corrupted else p.clean + " " + str(rng.choice(p.correct)).strip() for p in pairs]
    rows = token_rows(texts, tokenizer)
    marks = tuple(ids_of(["A", ":"], tokenizer))
    answers = [[i + 2 for i in range(len(row) - 2) if (row[i], row[i + 1]) == marks] for row in rows]
    if not corrupted:
        answers = [sorted({*places, len(row) - 1}) for row, places in zip(rows, answers, strict=True)]
    if reworded:
        ids = ids_of(neutral, tokenizer)
        changed = rng.random(n) < reworded
        both = [
            reword(row, places, ids, rng) if change else (row, places)
            for row, places, change in zip(rows, answers, changed, strict=True)
        ]
        rows, answers = [row for row, _ in both], [places for _, places in both]
    return pool_of(rows, answers)


def token_rows(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Token ids of each text.

    Raises:
        OptionError: if a text contains a word the tokenizer does not know.
    """
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    for text, row in zip(texts, rows, strict=True):
        if UNK in row:
            raise OptionError(
                f"the vocabulary lacks a word of {text!r}",
                hint="make the tokenizer of all words of these texts",
            )
    return rows


def ids_of(words: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the token id of each of several words; that of the unknown word where the tokenizer lacks one."""
    found = tokenizer.convert_tokens_to_ids(list(words))
    return [found] if isinstance(found, int) else found


def join(batches: Sequence[PromptBatch]) -> PromptBatch:
    """Return one batch of several, padded at the end to the longest."""
    longest = max(batch.ids.shape[1] for batch in batches)
    ids = [pad(batch.ids, (0, longest - batch.ids.shape[1]), value=PAD) for batch in batches]
    marks = [pad(batch.is_answer, (0, longest - batch.ids.shape[1]), value=False) for batch in batches]
    return PromptBatch(ids=torch.cat(ids), is_answer=torch.cat(marks))


def weighted_loss(
    logits: Float[Tensor, "prompt pos d_vocab"], batch: PromptBatch, *, text: float
) -> Float[Tensor, ""]:
    """Mean answer loss of the prompts plus ``text`` times the mean loss of all other tokens, in nats."""
    targets, is_answer = batch.ids[:, 1:], batch.is_answer[:, 1:]
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), reduction="none").view(
        targets.shape
    )
    is_text = (targets != PAD) & ~is_answer
    per_prompt = (loss * is_answer).sum(1) / is_answer.sum(1).clamp(min=1)
    return per_prompt.mean() + text * (loss * is_text).sum() / is_text.sum()


def shifted_positions(ids: Tensor, rng: np.random.Generator, *, context: int, share: float) -> Tensor:
    """Position ids where ``share`` of the rows stand somewhere else in the context, `<bos>` at 0 as always.

    Without it a model with learned positions answers by absolute place, which fails in templates it has not seen.
    """
    n, length = ids.shape
    start = rng.integers(0, context - length + 1, n) * (rng.random(n) < share)
    places = np.arange(length)[None, :] + start[:, None]
    places[:, 0] = 0
    return torch.from_numpy(places)


@torch.no_grad()
def last_logits(
    logits_of: Logits, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[list[int], Float[Tensor, "prompt d_vocab"]]]:
    """Return logits after the last token of the clean prompts: batches of prompts of one length, with their indices."""
    prompts = [[BOS, *row] for row in token_rows([p.clean for p in pairs], tokenizer)]
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        yield rows, logits_of(torch.tensor([prompts[i] for i in rows]))[:, -1]


def answer_accuracy(logits_of: Logits, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast) -> float:
    """Return the share of pairs whose clean prompt makes a correct answer the most likely of all tokens."""
    right = 0
    for rows, logits in last_logits(logits_of, pairs, tokenizer):
        for i, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            right += token in {tokenizer.convert_tokens_to_ids(a.strip()) for a in pairs[i].correct}
    return right / len(pairs)
