"""Retrieval heads: which heads copy a needle from a long text while the model writes it down.

At a decode step that writes token ``w`` a head copies if ``w`` is in the needle, the key that gets most of the
head's attention lies inside the needle, and the token there is ``w``. The score of a head is the share of the
needle that it copied. Where a row has several largest keys the earliest counts.

Source:
    Wu et al. 2024, "Retrieval Head Mechanistically Explains Long-Context Factuality", arXiv:2404.15574.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.claims import Quantity
from workbench.core.errors import OptionError, ShapeError, TaskError
from workbench.core.progress import Progress
from workbench.heads.decoding import Decoded, decode, forced
from workbench.heads.grounds import frame_of, vocabulary
from workbench.model.pattern_rows import looked

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Count = Literal["set", "steps"]
Writing = Literal["greedy", "forced"]
BATCH_TOKENS = 4096
THRESHOLD = 0.1
ANSWERED = 0.5


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A prompt that asks for something said in it.

    Attributes:
        prompt: Token ids, BOS included where the model wants it.
        start, end: Where the needle stands in the prompt; the answer is its tokens in order.
        context: Length asked for, in the unit of whoever made it.
        depth: Where the needle was put, 0 (beginning) to 100 (end).
    """

    prompt: tuple[int, ...]
    start: int
    end: int
    context: int = 0
    depth: float = float("nan")

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= len(self.prompt):
            raise OptionError(
                f"the needle is tokens {self.start} to {self.end}; expected a part of the prompt of "
                f"{len(self.prompt)} tokens",
                hint=f"start and end from 0 to {len(self.prompt)}, start before end",
            )

    @property
    def answer(self) -> tuple[int, ...]:
        return self.prompt[self.start : self.end]


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalScores:
    """Retrieval scores of every head.

    Attributes:
        score: Mean over the samples that count; NaN where none does.
        frequency: Share of these samples in which the head copied at least one token.
        mass: Mean share of what the head looks at that is at the needle, over their steps: how peaked the looking is,
            whatever is written.
        per_sample: The scores of single samples, also of those that do not count.
        recall: Share of different needle tokens that were written (ROUGE-1 recall of a needle without repeats).
        counted: Samples whose recall is above ``answered``.
        layers: Layer of each row of the tables.
    """

    score: Float[np.ndarray, "layer head"]
    frequency: Float[np.ndarray, "layer head"]
    mass: Float[np.ndarray, "layer head"]
    per_sample: Float[np.ndarray, "sample layer head"]
    recall: Float[np.ndarray, " sample"]
    counted: Bool[np.ndarray, " sample"]
    layers: tuple[int, ...]
    count: Count = "set"
    writing: Writing = "greedy"
    samples: tuple[Needle, ...] = field(default=(), repr=False)

    def heads(self, threshold: float = THRESHOLD) -> list[str]:
        """Return heads with at least this score, highest first; of equal scores the earlier head."""
        return [name for name, value in self.ranked() if value >= threshold]

    def ranked(self) -> list[tuple[str, float]]:
        """Return all heads with their scores, highest first, NaN as 0."""
        flat = np.nan_to_num(self.score).ravel()
        order = np.argsort(-flat, kind="stable")
        return [(self.name(i), float(flat[i])) for i in order]

    def top(self, share: float, *, last: bool = False) -> tuple[str, ...]:
        """Return this share of all heads, at least one: those with the highest scores, or the lowest."""
        k, names = max(1, round(share * self.score.size)), tuple(name for name, _ in self.ranked())
        return names[-k:] if last else names[:k]

    def name(self, index: int) -> str:
        layer, head = divmod(int(index), self.score.shape[1])
        return f"a{self.layers[layer]}.h{head}"

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row per head, highest first."""
        found = []
        for name, value in self.ranked():
            at = self._at(name)
            found.append(
                {
                    "head": name,
                    "retrieval score": value,
                    "active": self.frequency[at],
                    "at needle": self.mass[at],
                }
            )
        return found

    def _at(self, name: str) -> tuple[int, int]:
        layer, head = name[1:].split(".h")
        return self.layers.index(int(layer)), int(head)

    def __repr__(self) -> str:
        found = self.heads()
        return f"<RetrievalScores {len(found)} of {self.score.size} heads reach {THRESHOLD}: {', '.join(found[:5])}>"


def retrieval_scores(
    model: TransformerBridge,
    samples: Sequence[Needle],
    *,
    count: Count = "set",
    writing: Writing = "greedy",
    answered: float = ANSWERED,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> RetrievalScores:
    """Say which heads copy the needles of these samples.

    Args:
        count: ``set`` counts every needle token once (the paper); ``steps`` adds one for each step that copied (the
            paper's code), so that a token written twice counts twice.
        writing: ``greedy`` lets the model write and counts samples that it answers; ``forced`` writes the needle
            for it and counts all: where the heads would look. A null of forced scores is one over the prompt's length.
        answered: Samples with a recall above this count.

    Raises:
        OptionError: without samples, or for an unknown option.
        ModelError: if the model writes no text or shows no patterns.

    Source:
        Wu et al. 2024, arXiv:2404.15574, equation 1.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:induction")
        >>> retrieval_scores(model, random_needles(model, n=4, length=16), writing="forced")
        <RetrievalScores 4 of 8 heads reach 0.1: a1.h0, a1.h1, a1.h3, a1.h2>
    """
    for value, known in ((count, Count), (writing, Writing)):
        if value not in get_args(known):
            raise OptionError(
                f"{value!r} is not known here; expected one of {', '.join(get_args(known))}",
                hint=f"use {get_args(known)[0]!r}",
            )
    if not samples:
        raise OptionError("there are no samples", hint="samples=random_needles(model, n=16)")
    found: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}
    layers: tuple[int, ...] = ()
    for index, prompts, answers in batches(samples, batch_tokens):
        device = next(iter(model.parameters())).device
        prompts, answers = prompts.to(device), answers.to(device)
        if writing == "forced":
            done = forced(model, prompts, answers)
        else:
            done = decode(model, prompts, steps=answers.shape[1], guess=answers)
        layers = tuple(sorted(done.rows))
        for row, i in enumerate(index):
            found[i] = _sample(done, row, samples[i], count)
        if progress is not None:
            progress(len(found), len(samples), "needles")
    per_sample, mass, recall = (np.stack([found[i][k] for i in range(len(samples))]) for k in range(3))
    counted = np.ones(len(samples), dtype=bool) if writing == "forced" else recall > answered
    return RetrievalScores(
        score=_mean(per_sample, counted),
        frequency=_mean(per_sample > 0, counted),
        mass=_mean(mass, counted),
        per_sample=per_sample,
        recall=recall,
        counted=counted,
        layers=layers,
        count=count,
        writing=writing,
        samples=tuple(samples),
    )


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return values[counted].mean(0) if counted.any() else np.full(values.shape[1:], np.nan)


def _sample(done: Decoded, row: int, needle: Needle, count: Count) -> tuple[np.ndarray, np.ndarray, float]:
    """Score and mass of every head on one sample, and its recall."""
    rows = torch.stack([done.rows[layer][row] for layer in sorted(done.rows)])  # (layer, head, step, key)
    tokens = done.tokens[row].tolist()
    hits = copied(rows, tokens, needle)
    score = copied_share(hits, tokens, needle.answer, count=count)
    mass = looked(rows)[..., needle.start : needle.end].sum(-1).nanmean(-1)
    return score.cpu().numpy(), mass.float().cpu().numpy(), recall_of(tokens, needle.answer)


def copied(
    rows: Float[Tensor, "*head step key"], tokens: Sequence[int], needle: Needle
) -> Bool[Tensor, "*head step"]:
    """Say whether each head copies at each step: it looks most at a needle position that holds the token written.

    A head that looks at no key (its row sums to 0) copies nothing.

    Args:
        rows: Attention of the position that chose each token; at least the prompt's keys.
    """
    if rows.shape[-2] != len(tokens):
        raise ShapeError(
            f"{rows.shape[-2]} rows of attention for {len(tokens)} written tokens",
            hint="give one row for each written token",
        )
    if rows.shape[-1] < len(needle.prompt):
        raise ShapeError(
            f"rows over {rows.shape[-1]} keys; the prompt has {len(needle.prompt)} tokens",
            hint="read the rows of this prompt: they cover all its tokens",
        )
    at = _first_largest(rows)
    prompt = torch.tensor(needle.prompt, device=rows.device)
    inside = (at >= needle.start) & (at < needle.end)
    there = prompt[at.clamp(max=len(prompt) - 1)]
    return inside & (rows.sum(-1) > 0) & (there == torch.tensor(list(tokens), device=rows.device))


def copied_share(
    hits: Bool[Tensor, "*head step"], tokens: Sequence[int], answer: Sequence[int], *, count: Count = "set"
) -> Float[Tensor, "*head"]:
    """Return the share of the needle that each head copied: of its different tokens, or steps over its length."""
    if count == "steps":
        return hits.double().sum(-1) / len(answer)
    share = hits.new_zeros(hits.shape[:-1], dtype=torch.double)
    for token in set(answer):
        at = [step for step, written in enumerate(tokens) if written == token]
        share += hits[..., at].any(-1)
    return share / len(set(answer))


def recall_of(tokens: Sequence[int], answer: Sequence[int]) -> float:
    """Return the share of the different needle tokens that were written."""
    return len(set(tokens) & set(answer)) / len(set(answer))


def recalls_of(texts: Sequence[Sequence[int]], samples: Sequence[Answerable]) -> Float[np.ndarray, " sample"]:
    """Return the share of each answer's different tokens that was written.

    Example:
        >>> recalls_of([[7, 8, 7]], [Needle(prompt=(1, 8, 9), start=1, end=3)]).tolist()
        [0.5]
    """
    return np.array([recall_of(tokens, s.answer) for tokens, s in zip(texts, samples, strict=True)])


def invented(
    texts: Sequence[Sequence[int]], samples: Sequence[Answerable], kind: Collection[int], *, least: int = 10
) -> dict[str, Quantity]:
    """Say of the wrong tokens that were written whether they are made up: of the right kind, and from nowhere.

    Args:
        kind: Tokens that an answer can have.
        least: So many wrong tokens are needed.

    Returns:
        Which share of the wrong tokens is of the ``right kind``, and which stands ``in the text``; or why neither is
        known.

    Example:
        >>> sample = Needle(prompt=(1, 8, 9), start=1, end=3)
        >>> found = invented([[8, 5], [1, 5]], [sample, sample], {5, 8, 9}, least=3)
        >>> round(found["right kind"].value, 3), found["right kind"].n, round(found["in the text"].value, 3)
        (0.667, 3, 0.333)
    """
    told = zip(texts, samples, strict=True)
    wrong = [(token, one.prompt) for text, one in told for token in text if token not in one.answer]
    if len(wrong) < least or not kind:
        few = Quantity(None, why=f"{len(wrong)} wrong tokens; {least} are needed")
        return {"right kind": few, "in the text": few}
    right, there = ([token in kind for token, _ in wrong], [token in prompt for token, prompt in wrong])
    return {
        "right kind": Quantity(float(np.mean(right)), len(wrong)),
        "in the text": Quantity(float(np.mean(there))),
    }


def _first_largest(rows: Tensor) -> Int[Tensor, "*head step"]:
    """The earliest key with the largest weight (``argmax`` promises no order)."""
    keys = torch.arange(rows.shape[-1], device=rows.device)
    return torch.where(rows == rows.amax(-1, keepdim=True), keys, rows.shape[-1]).amin(-1)


class Answerable(Protocol):
    """A prompt and the tokens that answer it."""

    @property
    def prompt(self) -> tuple[int, ...]: ...
    @property
    def answer(self) -> tuple[int, ...]: ...


def batches(
    samples: Sequence[Answerable], batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[list[int], Int[Tensor, "row pos"], Int[Tensor, "row step"]]]:
    """Return samples of one length and one needle length together: their indices, prompts and answers."""
    shapes = [(len(s.prompt), len(s.answer)) for s in samples]
    for shape in sorted(set(shapes)):
        where = [i for i, own in enumerate(shapes) if own == shape]
        size = max(1, batch_tokens // sum(shape))
        for start in range(0, len(where), size):
            part = where[start : start + size]
            prompts = torch.tensor([samples[i].prompt for i in part])
            yield part, prompts, torch.tensor([samples[i].answer for i in part])


def random_needles(
    model: TransformerBridge,
    *,
    n: int = 16,
    length: int = 64,
    size: int = 4,
    seed: int = 0,
    lead: int = 1,
) -> tuple[Needle, ...]:
    """Needles for any model: different random tokens, then ``lead`` of them again; what followed is the answer.

    All needles differ; where the vocabulary allows fewer than ``n`` there are fewer. An induction head answers these; a
    model that has none is scored with ``writing="forced"``.

    Args:
        length: Tokens of the prompt in all, BOS included.
        size: Tokens of a needle.
        lead: Tokens before the needle, which are repeated at the prompt's end.

    Raises:
        OptionError: if the needle does not fit.
        TaskError: if the vocabulary has too few tokens for a text without repeats.
    """
    before = frame_of(model)[0]
    words = np.array(vocabulary(model))
    body = length - len(before) - lead
    if min(n, size, lead) < 1 or body < size + lead:
        raise OptionError(
            f"a prompt of {length} tokens has no room for a needle of {size} after {lead}",
            hint=f"n, size and lead of at least 1, and length={max(size, 1) + max(lead, 1) + length - body} or more",
        )
    if body > len(words):
        raise TaskError(
            f"the prompt needs {body} different tokens; the vocabulary has {len(words)}",
            hint="a shorter length, or a smaller size",
        )
    rng, cues = np.random.default_rng(seed), body - size - lead + 1
    found: dict[tuple[int, ...], Needle] = {}
    while len(found) < min(n, math.perm(len(words), body) * cues):
        text = rng.choice(words, body, replace=False).tolist()
        cue = int(rng.integers(0, cues))
        start = len(before) + cue + lead
        prompt = (*before, *text, *text[cue : cue + lead])
        found.setdefault(prompt, Needle(prompt=prompt, start=start, end=start + size, context=length))
    return tuple(found.values())
