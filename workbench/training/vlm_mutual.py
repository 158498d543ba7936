"""`vlm-mutual`: the twin of `vlm` whose patches see the question, and pairs that differ in nothing but the mask.

A patch that sees a question cannot be shared by questions, so every question has a row of its own, and as many rows as
cost the same time: three questions to a picture where `vlm` has fifteen. `vlm-causal` is trained on the same three of
every picture with the usual mask: same seed, tower, pictures, questions and steps. The other pair has another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration

from workbench.tasks.scenes.questions import KINDS
from workbench.training.recipe import CardNumber, TrainingRecipe, save
from workbench.training.seeing_measure import Eyes, accuracy_by_kind, card_numbers
from workbench.training.seeing_words import LENGTH, PACKED, PICTURE, Packed, unlocked_mask
from workbench.training.vlm import RECIPE as VLM
from workbench.training.vlm import PackedReader, train
from workbench.training.vocabulary import BOS

QUESTIONS = 3  # to a picture
OWN_SEEDS = 10  # of twins trained anew: no built-in model has one of them


class UnlockedReader(PackedReader):
    """The language model behind a tower that stays as it is; patches see the question."""

    who_sees_whom = staticmethod(unlocked_mask)

    @staticmethod
    def mark(config: LlavaConfig) -> None:
        """Say in a configuration that patches see the question."""
        config.image_sees_question = True

    def forward(
        self, pixels: Float[Tensor, "picture 3 height width"], packed: Packed
    ) -> tuple[Float[Tensor, "picture question d_vocab"], Float[Tensor, "picture token d_vocab"] | None]:
        """Return logits of the answers, each question in a row of its own, and of the words of a description."""
        patches, n = self.see(pixels), packed.answers.shape[1]
        asked, rest = packed.ids[:, : n * LENGTH], packed.ids[:, n * LENGTH :]
        answers = self.answer(patches.repeat_interleave(n, dim=0), asked.reshape(-1, LENGTH))[:, 0]
        said = None if packed.described is None else self.answer(patches, rest)
        return answers.unflatten(0, (len(patches), n)), said

    def answer(
        self, patches: Float[Tensor, "row patch d_model"], words: Int[Tensor, "row word"]
    ) -> Float[Tensor, "row token d_vocab"]:
        """Return logits from the question's last word on, one question a row."""
        embed = self.words.embed_tokens
        start = embed(torch.full((len(words), 1), BOS))
        hidden = self.words(
            inputs_embeds=torch.cat([start, patches, embed(words)], dim=1),
            attention_mask=self.who_sees_whom(PICTURE + words.shape[1]),
            use_cache=False,
        ).last_hidden_state
        return self.unembed(hidden[:, PICTURE + LENGTH - 1 :])


def under_both_masks(model: LlavaForConditionalGeneration, *, unlocked: bool) -> list[CardNumber]:
    """List the numbers of `vlm` under the model's own mask, and two kinds under the other one."""
    other: dict[str, list[bool]] = {}
    for kind, n, _, right in accuracy_by_kind(Eyes(model, unlocked=not unlocked), ("colour", "place")):
        other.setdefault(kind, []).extend(right if n > 1 else [])
    what = "patches blind to the question" if unlocked else "patches that see the question"
    rest = [
        CardNumber(name=f"{kind}, two to four objects, {what}", value=float(np.mean(right)), n=len(right))
        for kind, right in other.items()
    ]
    return [*card_numbers(model, unlocked=unlocked), *rest]


@torch.no_grad()
def by_kind(model: LlavaForConditionalGeneration, *, unlocked: bool, each: int = 60) -> list[CardNumber]:
    """List what share of each kind of questions is answered rightly, about two to four objects, under the own mask."""
    right: dict[str, list[bool]] = {}
    for kind, n, _, found in accuracy_by_kind(Eyes(model, unlocked=unlocked), KINDS, each=each):
        right.setdefault(kind, []).extend(found if n > 1 else [])
    return [
        CardNumber(name=f"{kind}, two to four objects", value=float(np.mean(own)), n=len(own), needs=0.5)
        for kind, own in right.items()
    ]


def twin(name: str, *, unlocked: bool, seed: int, title: str) -> TrainingRecipe:
    """Return the recipe of a model trained on three questions a picture, with one mask or the other."""
    shape = "The shape, seed, tower, pictures and steps of zoo:vlm"
    if seed != VLM.seed:
        shape = f"The shape and steps of zoo:vlm, with seed {seed}"
    opened = (
        "Its patches also see the question behind them; the workbench runs it so wherever it is opened. In plain "
        "transformers give `attention_mask` as workbench.training.seeing_words.unlocked_mask makes it: without it the "
        "model is causal and answers badly."
        if unlocked
        else f"{QUESTIONS} questions to a picture, those of its twin whose patches see the question; the usual mask."
    )
    reader: type[PackedReader] = UnlockedReader if unlocked else PackedReader
    few = f"it saw {QUESTIONS} questions to a picture where zoo:vlm saw {len(PACKED)}"
    blamed = "in rows of the same cost: what it answers worse may be want of questions and not the mask"
    limits = (
        (f"{few}, {blamed}", "the usual causal mask: it was never trained with it") if unlocked else (few,)
    )
    measured = under_both_masks if name == "vlm-mutual" else by_kind
    measure: Callable[[LlavaForConditionalGeneration], list[CardNumber]] = partial(
        measured, unlocked=unlocked
    )
    return replace(
        VLM,
        name=name,
        title=title,
        what=f"{shape}. {opened}",
        seed=seed,
        train=partial(train, name=name, reader=reader, questions=QUESTIONS),
        measure=measure,
        limits=(*limits, *VLM.limits),
    )


RECIPE = twin("vlm-mutual", unlocked=True, seed=0, title="the twin of zoo:vlm whose patches see the question")
CAUSAL = twin(
    "vlm-causal", unlocked=False, seed=0, title="zoo:vlm-mutual but for the mask, which is the usual one"
)
OTHER = twin("vlm-mutual-other", unlocked=True, seed=1, title="zoo:vlm-mutual with another seed")
CAUSAL_OTHER = twin("vlm-causal-other", unlocked=False, seed=1, title="zoo:vlm-causal with another seed")
PAIRS = (CAUSAL, RECIPE), (CAUSAL_OTHER, OTHER)
"""Twins: blind to the question, and seeing it."""


def train_pair(
    pair: Sequence[TrainingRecipe], folder: Path, seed: int = OWN_SEEDS, **sizes: int
) -> list[Path]:
    """Train the twins of a pair anew, from the same start on the same pictures and questions.

    Args:
        folder: Where they are saved; twins find the tower of their pair there.
        seed: Added to that of each twin.
        sizes: ``steps`` of the twins and ``tower_steps`` of their tower.

    Returns:
        The folders of the models, in the order of the pair.
    """
    for each in pair:
        save(each.train(seed + each.seed, folder, **sizes), folder / each.name)
    return [folder / each.name for each in pair]
