"""`vlm`: a LLaVA that answers questions about drawn pictures.

First the tower learns what patches show (`workbench/training/seeing_tower.py`), then the language model learns to
find the patch that is asked for, with many questions to a picture in one row (`workbench/training/seeing_words.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import draw_many
from workbench.tasks.scenes.questions import LENGTH
from workbench.tasks.scenes.words import N_PATCHES, PATCH, SIDE
from workbench.training.dense_labels import PREPROCESSOR, pixel_values
from workbench.training.loop import Fit, fit
from workbench.training.recipe import Trained, TrainingRecipe
from workbench.training.schedule import mixed_optimisers
from workbench.training.seeing_measure import card_numbers
from workbench.training.seeing_tower import ALIKE, ZOOMED, learn_to_see
from workbench.training.seeing_tower import STEPS as TOWER_STEPS
from workbench.training.seeing_words import (
    DESCRIPTION,
    IMAGE,
    PACKED,
    Packed,
    Packer,
    block_mask,
    scene_tokenizer,
)
from workbench.training.vocabulary import BOS, EOS, PAD

WIDTH, LAYERS, HEADS, MLP = 64, 4, 4, 160
OBJECTS = (0.06, 1, 1, 1)
WORLD = World(objects=OBJECTS)
ALIKE_WORLD = World(objects=OBJECTS, alike=0.4)
"""Every other batch: several objects of one colour, without which counting two and three is hardly ever trained."""
STEPS, BATCH = 5000, 16
DESCRIBED = 4  # every how many steps the pictures are also described
LONGEST = 128


def build(seed: int) -> LlavaForConditionalGeneration:
    """Return the untrained model."""
    torch.manual_seed(seed)
    words = scene_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=64,
        initializer_range=0.05,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=False,
        initializer_range=0.05,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=words.get_vocab()[IMAGE],
        image_seq_length=N_PATCHES,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        model.model.language_model.embed_tokens.weight.normal_(std=ALIKE)
        for layer in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
            layer.weight.normal_(std=WIDTH**-0.5)
    return model


def world_of_step(step: int) -> World:
    """Return usual pictures, those with several of one colour, and now and then zoomed or tiny ones."""
    if step % 8 == 7:
        return ZOOMED[step // 8 % len(ZOOMED)]
    return ALIKE_WORLD if step % 2 else WORLD


class PackedReader(torch.nn.Module):
    """The language model behind a tower that stays as it is; only its own parameters are trained."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.words, self.unembed = model.model.language_model, model.lm_head
        self._seen = [
            model.model.vision_tower,
            model.model.multi_modal_projector,
        ]  # a list: no parameters of ours

    @staticmethod
    def mark(config: LlavaConfig) -> None:
        """Say in a configuration what is not usual about who sees whom: here nothing."""

    @torch.no_grad()
    def see(self, pixels: Float[Tensor, "picture 3 height width"]) -> Float[Tensor, "picture patch d_model"]:
        """Return projected patches as the language model gets them."""
        tower, projector = self._seen
        return projector(tower(pixels).last_hidden_state[:, 1:])

    def forward(
        self, pixels: Float[Tensor, "picture 3 height width"], packed: Packed
    ) -> tuple[Float[Tensor, "picture question d_vocab"], Float[Tensor, "picture token d_vocab"] | None]:
        """Return logits of the answers, and of the words of the description if there is one."""
        patches = self.see(pixels)
        embed = self.words.embed_tokens
        start = embed(torch.full((len(pixels), 1), BOS))
        lengths = [LENGTH] * packed.answers.shape[1]
        lengths += [] if packed.described is None else [LENGTH + DESCRIPTION - 1]
        mask, places = block_mask(lengths)
        hidden = self.words(
            inputs_embeds=torch.cat([start, patches, embed(packed.ids)], dim=1),
            attention_mask=torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min),
            position_ids=places,
            use_cache=False,
        ).last_hidden_state
        answers = self.unembed(hidden[:, packed.answer_at])
        said = None
        if packed.described is not None:
            said = self.unembed(hidden[:, packed.described_from : packed.described_from + DESCRIPTION])
        return answers, said


Optimisers = Callable[[torch.nn.Module], list[torch.optim.Optimizer]]


def words_optimisers(asked: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Return Muon for matrices inside the layers, AdamW for everything else."""
    return mixed_optimisers(asked, lr=0.02, outer_lr=3e-3)


def learn_to_answer(
    model: LlavaForConditionalGeneration,
    *,
    seed: int,
    reader: type[PackedReader] = PackedReader,
    questions: int = len(PACKED),
    steps: int = STEPS,
    batch: int = BATCH,
    optimisers: Optimisers = words_optimisers,
    checkpoint: Path | None = None,
) -> Fit:
    """Train the language model on so many questions a picture; the tower stays as it is."""
    asked, packer = reader(model), Packer(scene_tokenizer())
    recent: list[Tensor] = []

    def loss_of_step(step: int) -> Tensor:
        world = world_of_step(step)
        pixels, layout = draw_many(seed + 1, range(step * batch, (step + 1) * batch), world)
        rng = np.random.default_rng([seed, step])
        packed = packer.pack(layout, world, rng, describe=step % DESCRIBED == 0)
        if questions < len(PACKED):
            packed = packed.few(questions, rng)
        answers, said = asked(pixel_values(pixels), packed)
        if world is WORLD:  # pictures such as it is measured on
            recent.append((answers.argmax(-1) == packed.answers).float().mean(0))
        loss = cross_entropy(answers.flatten(0, 1), packed.answers.flatten())
        if said is None or packed.described is None:
            return loss
        return loss + cross_entropy(said.flatten(0, 1), packed.described.flatten(), ignore_index=PAD)

    def watch(step: int) -> str:
        right = torch.stack(recent[-80:]).mean(0)
        if questions < len(PACKED):  # other kinds of each picture
            return f"all kinds {right.mean():.3f}"
        return ", ".join(
            f"{kind} {value:.3f}" for kind, value in zip(packer.kinds, right.tolist(), strict=True)
        )

    return fit(
        asked,
        loss_of_step,
        optimisers=optimisers(asked),
        steps=steps,
        warmup=50,
        decay=0.59,
        watch=watch,
        checkpoint=checkpoint,
    )


def train(
    seed: int,
    scratch: Path | None = None,
    *,
    name: str = "vlm",
    reader: type[PackedReader] = PackedReader,
    questions: int = len(PACKED),
    tower_steps: int = TOWER_STEPS,
    steps: int = STEPS,
    batch: int = BATCH,
) -> Trained:
    """Train the tower, then the language model behind it.

    Args:
        name: Of the checkpoint of the language model; that of the tower is shared by all of one seed.
        reader: Who sees whom.
        questions: To a picture.
    """
    model = build(seed)
    reader.mark(model.config)

    def saved(what: str) -> Path | None:
        return None if scratch is None else scratch / f"{what}.pt"

    phases = {
        "tower": learn_to_see(model, seed=seed, steps=tower_steps, checkpoint=saved(f"vlm-tower-{seed}")),
        "words": learn_to_answer(
            model,
            seed=seed,
            reader=reader,
            questions=questions,
            steps=steps,
            batch=batch,
            checkpoint=saved(f"{name}-words-{seed}"),
        ),
    }
    return Trained(
        model=model,
        tokenizer=scene_tokenizer(),
        phases=phases,
        data={f"seconds of one core, {name}": phase.core_seconds for name, phase in phases.items()},
        beside={"preprocessor_config.json": PREPROCESSOR | {"image_processor_type": "CLIPImageProcessor"}},
    )


def opens(directory: Path) -> LlavaForConditionalGeneration:
    """Return the saved model as plain transformers opens it."""
    return LlavaForConditionalGeneration.from_pretrained(directory).eval()


RECIPE = TrainingRecipe(
    name="vlm",
    title="a small LLaVA that answers questions about drawn pictures",
    what="LLaVA: a CLIP tower of 3 layers and 4 heads, a projector of two layers, a Llama of 4 layers and 4 heads, "
    "width 64. Reads a picture of 48 x 48 pixels as 36 patches and one question of seven words about its one to four "
    "objects, and says the answer in one word. A prompt is `<bos>`, 36 times `<image>`, and the question.",
    train=train,
    measure=card_numbers,
    opens=opens,
    held_out={
        "pictures": "drawn from numbers that training never uses; every combination of colour, shape, size and cell is "
        "trained",
        "questions": "measured one to a prompt through plain transformers; trained twelve or more to a picture, each "
        "blind to the others",
    },
    limits=(
        "its tower is planted: dense labels taught every patch to say colour, shape, size and cell of the object on "
        "it, so only the search in the language model is learned from answers",
        "the tower has no text side, and its class token was never trained: for attention of the class token or "
        "similarity of patches and words take zoo:clip",
        "patches of the background are kept alike by training: no sinks are to be expected there",
        "one question a prompt: conversations were never trained",
        "counting three or more of one colour, which the accuracy of all counts hides: see its own number",
        "whole descriptions: it invents next to nothing but says an object twice and leaves another out",
        "no prior is planted: stars are as often red as yellow",
        "right and wrong can be compared only where it errs: in pictures with noise (0.12) or in counts",
    ),
)
