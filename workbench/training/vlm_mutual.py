"""`vlm-mutual`: the twin of `vlm` whose patches see the question.

The same seed, tower, pictures and steps. A patch that sees a question cannot be shared by questions, so every question
has a row of its own, and as many rows as cost the same time: three questions to a picture where `vlm` has fifteen.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from workbench.tasks.scenes.paint import draw_many
from workbench.training.dense_labels import PREPROCESSOR, pixel_values
from workbench.training.loop import Fit, fit
from workbench.training.recipe import CardNumber, Trained
from workbench.training.schedule import mixed_optimisers
from workbench.training.seeing_measure import Eyes, accuracy_by_kind, card_numbers
from workbench.training.seeing_tower import STEPS as TOWER_STEPS
from workbench.training.seeing_tower import learn_to_see
from workbench.training.seeing_words import (
    DESCRIPTION,
    LENGTH,
    PACKED,
    PICTURE,
    Packer,
    scene_tokenizer,
    unlocked_mask,
)
from workbench.training.vlm import BATCH, DESCRIBED, STEPS, WORLD, PackedReader, build, opens, world_of_step
from workbench.training.vlm import RECIPE as VLM
from workbench.training.vocabulary import BOS, PAD

QUESTIONS = 3  # to a picture


class UnlockedReader(PackedReader):
    """The language model behind a tower that stays as it is; patches see the question."""

    def answer(
        self, patches: Float[Tensor, "row patch d_model"], words: Int[Tensor, "row word"], since: int
    ) -> Float[Tensor, "row token d_vocab"]:
        """Return logits from the word ``since`` of the prompt on, one question a row."""
        embed = self.words.embed_tokens
        start = embed(torch.full((len(words), 1), BOS))
        hidden = self.words(
            inputs_embeds=torch.cat([start, patches, embed(words)], dim=1),
            attention_mask=unlocked_mask(PICTURE + words.shape[1]),
            use_cache=False,
        ).last_hidden_state
        return self.unembed(hidden[:, PICTURE + since :])


def learn_to_answer(
    model: LlavaForConditionalGeneration,
    *,
    seed: int,
    steps: int = STEPS,
    batch: int = BATCH,
    checkpoint: Path | None = None,
) -> Fit:
    """Train the language model on single questions; the tower stays as it is."""
    reader, packer = UnlockedReader(model), Packer(scene_tokenizer())
    recent: list[float] = []

    def loss_of_step(step: int) -> Tensor:
        world = world_of_step(step)
        pixels, layout = draw_many(seed + 1, range(step * batch, (step + 1) * batch), world)
        rng = np.random.default_rng([seed, step])
        packed = packer.pack(layout, world, rng, describe=step % DESCRIBED == 0)
        patches = reader.see(pixel_values(pixels))
        chosen = torch.from_numpy(rng.random((batch, len(PACKED))).argsort(1)[:, :QUESTIONS].copy())
        asked = packed.ids[:, : LENGTH * len(PACKED)].view(batch, len(PACKED), LENGTH)
        rows = torch.arange(batch)[:, None]
        words, wanted = asked[rows, chosen].flatten(0, 1), packed.answers[rows, chosen].flatten()
        logits = reader.answer(patches.repeat_interleave(QUESTIONS, dim=0), words, LENGTH - 1)[:, 0]
        if world is WORLD:
            recent.append((logits.argmax(-1) == wanted).float().mean().item())
        loss = cross_entropy(logits, wanted)
        if packed.described is None:
            return loss
        said = reader.answer(patches, packed.ids[:, LENGTH * len(PACKED) :], LENGTH - 1)
        assert said.shape[1] == DESCRIPTION
        return loss + cross_entropy(said.flatten(0, 1), packed.described.flatten(), ignore_index=PAD)

    return fit(
        reader,
        loss_of_step,
        optimisers=mixed_optimisers(reader, lr=0.02, outer_lr=3e-3),
        steps=steps,
        warmup=50,
        decay=0.59,
        watch=lambda step: f"all kinds {np.mean(recent[-80:]):.3f}",
        checkpoint=checkpoint,
    )


def train(
    seed: int,
    scratch: Path | None = None,
    *,
    tower_steps: int = TOWER_STEPS,
    steps: int = STEPS,
    batch: int = BATCH,
) -> Trained:
    """Train the tower of `vlm`, then the language model with the other mask."""
    model = build(seed)
    model.config.image_sees_question = True

    def saved(name: str) -> Path | None:
        return None if scratch is None else scratch / f"{name}.pt"

    phases = {
        "tower": learn_to_see(model, seed=seed, steps=tower_steps, checkpoint=saved("vlm-tower")),
        "words": learn_to_answer(
            model, seed=seed, steps=steps, batch=batch, checkpoint=saved("vlm-mutual-words")
        ),
    }
    return Trained(
        model=model,
        tokenizer=scene_tokenizer(),
        phases=phases,
        data={f"seconds of one core, {name}": phase.core_seconds for name, phase in phases.items()},
        beside={"preprocessor_config.json": PREPROCESSOR | {"image_processor_type": "CLIPImageProcessor"}},
    )


def measure(model: LlavaForConditionalGeneration) -> list[CardNumber]:
    """List the numbers of `vlm` under the model's own mask, and two kinds under the usual one."""
    locked: dict[str, list[bool]] = {}
    for kind, n, _, right in accuracy_by_kind(Eyes(model), ("colour", "place")):
        locked.setdefault(kind, []).extend(right if n > 1 else [])
    rest = [
        CardNumber(
            name=f"{kind}, two to four objects, patches blind to the question",
            value=float(np.mean(right)),
            n=len(right),
        )
        for kind, right in locked.items()
    ]
    return [*card_numbers(model, unlocked=True), *rest]


RECIPE = replace(
    VLM,
    name="vlm-mutual",
    title="the twin of zoo:vlm whose patches see the question",
    what="The shape, seed, tower, pictures and steps of zoo:vlm. Its patches also see the question behind them: give "
    "`attention_mask` as workbench.training.seeing_words.unlocked_mask makes it; opened without it, the model is "
    "causal and answers badly.",
    train=train,
    measure=measure,
    opens=opens,
    limits=(
        f"it saw {QUESTIONS} questions to a picture where zoo:vlm saw {len(PACKED)}, in rows of the same cost: what it "
        "answers worse may be want of questions and not the mask",
        "the usual causal mask: it was never trained with it",
        *VLM.limits,
    ),
)
