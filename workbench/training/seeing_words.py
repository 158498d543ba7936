"""Training text of `vlm`: many questions to one picture, packed into one row, each blind to the others.

A row is ``<bos>``, the patches, then blocks. A block sees the picture and itself, and its positions start right
behind the picture, so that every block is computed as if it stood there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AddedToken, PreTrainedTokenizerFast

from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.questions import DESCRIBE, LENGTH, SceneQuestion, askable, sentence_words
from workbench.tasks.scenes.truth import Thing, things_of
from workbench.tasks.scenes.words import N_PATCHES
from workbench.training.vocabulary import PAD, word_tokenizer

IMAGE = "<image>"
PICTURE = 1 + N_PATCHES  # <bos> and the patches
PACKED = (*["colour"] * 2, "shape", *["count"] * 4, *["place"] * 2, *["exist"] * 3, "size", *["relation"] * 2)
"""Kinds of the questions to one picture."""
DESCRIPTION = 16  # tokens of four objects
ZERO = 0.5  # chance that *how many* of a colour that is nowhere may be chosen


def scene_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of one token a word, and ``<image>``, which stands for a patch."""
    tokenizer = word_tokenizer(sentence_words())
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    return tokenizer


def pick(found: Sequence[SceneQuestion], rng: np.random.Generator) -> SceneQuestion:
    """Return one question, every answer that is possible equally often (*zero* half as often)."""
    answers = sorted({question.answer for question in found})
    if len(answers) > 1 and "zero" in answers and rng.random() < ZERO:
        answers.remove("zero")
    answer = answers[int(rng.integers(len(answers)))]
    left = [question for question in found if question.answer == answer]
    return left[int(rng.integers(len(left)))]


def packed_questions(
    things: Sequence[Thing], world: World, kinds: Sequence[str], rng: np.random.Generator
) -> list[SceneQuestion]:
    """Return one question for each kind; where a picture has none of a kind, one of *exist* instead."""
    possible = {kind: askable(things, kind, world) for kind in {*kinds, "exist"}}
    return [pick(possible[kind] or possible["exist"], rng) for kind in kinds]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Words of many pictures: one row each, without the picture's part."""

    ids: Int[Tensor, "picture word"]
    answers: Int[Tensor, "picture question"]
    answer_at: Int[Tensor, " question"]  # positions in the whole row
    described: Int[Tensor, "picture token"] | None = None
    described_from: int = 0  # position in the whole row that says the first word

    def few(self, n: int, rng: np.random.Generator) -> Packed:
        """Keep ``n`` questions of each picture, other ones of each."""
        pictures, questions = self.answers.shape
        chosen = torch.from_numpy(rng.random((pictures, questions)).argsort(1)[:, :n].copy())
        rows, ends = torch.arange(pictures)[:, None], self.answer_at[:n]
        asked = self.ids[:, : questions * LENGTH].view(pictures, questions, LENGTH)[rows, chosen]
        return replace(
            self,
            ids=torch.cat([asked.flatten(1), self.ids[:, questions * LENGTH :]], dim=1),
            answers=self.answers[rows, chosen],
            answer_at=ends,
            described_from=int(ends[-1]) + LENGTH,
        )


class Packer:
    """Turns pictures into packed rows of token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, kinds: Sequence[str] = PACKED) -> None:
        self.vocabulary, self.kinds = tokenizer.get_vocab(), tuple(kinds)

    def ids(self, text: str) -> list[int]:
        """Return token ids of words separated by spaces."""
        return [self.vocabulary[word] for word in text.split()]

    def pack(self, layout: SceneLayout, world: World, rng: np.random.Generator, *, describe: bool) -> Packed:
        """Return questions and, if asked, a description of every picture."""
        rows, answers, described = [], [], []
        for picture in range(len(layout)):
            things = things_of(layout, picture)
            asked = packed_questions(things, world, self.kinds, rng)
            row = [token for question in asked for token in self.ids(question.text)]
            answers.append([self.vocabulary[question.answer] for question in asked])
            if describe:
                said = self.ids(" , ".join(thing.phrase for thing in things) + " .")
                said += [PAD] * (DESCRIPTION - len(said))
                described.append(said)
                row += [*self.ids(DESCRIBE), *said[:-1]]
            rows.append(row)
        ends = PICTURE + LENGTH * torch.arange(1, len(self.kinds) + 1) - 1
        return Packed(
            ids=torch.tensor(rows),
            answers=torch.tensor(answers),
            answer_at=ends,
            described=torch.tensor(described) if describe else None,
            described_from=int(ends[-1]) + LENGTH,
        )


def block_mask(lengths: Sequence[int]) -> tuple[Bool[Tensor, "1 1 query key"], Int[Tensor, "1 pos"]]:
    """Say who sees whom where blocks of these lengths stand behind a picture, and the position of every token.

    Returns:
        True where a query sees a key; positions.
    """
    block = torch.cat([torch.zeros(PICTURE), *(torch.full((n,), i + 1.0) for i, n in enumerate(lengths))])
    own = (block[:, None] == block[None]) | (block[None] == 0)
    places = torch.cat([torch.arange(PICTURE), *(PICTURE + torch.arange(n) for n in lengths)])
    causal = torch.ones(len(block), len(block), dtype=torch.bool).tril()
    return (own & causal)[None, None], places[None]


def unlocked_mask(length: int) -> Float[Tensor, "1 1 query key"]:
    """Return the mask of a causal model whose patches also see the question, to be added to attention scores.

    Patches see only the question's own words behind them, never an answer or a description that follows.

    Args:
        length: Tokens of the prompt: ``<bos>``, patches, question, and what follows.

    Returns:
        0 where a query sees a key, the least float32 elsewhere; ``length * (length + 1) / 2 + 36 * 7`` zeros.
    """
    sees = torch.ones(length, length, dtype=torch.bool).tril()
    sees[1:PICTURE, PICTURE : PICTURE + LENGTH] = True
    return torch.zeros(1, 1, length, length).masked_fill(~sees, torch.finfo(torch.float32).min)
