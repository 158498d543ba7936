"""`clip`: a small CLIP of drawn pictures and their captions.

Contrastive loss as in CLIP, and a dense loss on patches through heads that are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import draw_many
from workbench.tasks.scenes.truth import Thing, caption_of, things_of
from workbench.tasks.scenes.words import COLOURS, NUMBERS, PATCH, SHAPES, SIDE, SIZES
from workbench.training.dense_labels import (
    PREPROCESSOR,
    PatchHeads,
    patch_labels,
    pictures_of_step,
    pixel_values,
)
from workbench.training.loop import Fit, fit
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import BOS, EOS, PAD, SPECIAL, word_tokenizer

WORLD = World(objects=(0.1, 1, 1, 1))
CROWDED = World(objects=(1,) * 9)
STEPS, BATCH, EXTRA = 900, 128, 32
WIDTH = 64
LONGEST = 20  # four objects, three words between them, a relation's second word, <bos> and <eos>
HELD_OUT, SETS, MEASURED = 1_000_000, 4, World(objects=(0, 1, 1, 1))
HEADS = ("colour", "shape", "size")
CAPTION_WORDS = (*SIZES, *COLOURS, *SHAPES, "and", "left", "right", "of", "above", "below", "nothing")


def caption_tokenizer() -> PreTrainedTokenizerFast:
    """Return one token a word; captions stand between ``<bos>`` and ``<eos>``."""
    tokenizer = word_tokenizer(CAPTION_WORDS)
    bos, eos = SPECIAL["bos_token"], SPECIAL["eos_token"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, BOS), (eos, EOS)]
    )
    return tokenizer


def caption_ids(captions: list[str], tokenizer: PreTrainedTokenizerFast) -> Int[Tensor, "caption token"]:
    """Return token ids, padded at the end."""
    vocabulary = tokenizer.get_vocab()
    ids = np.full((len(captions), LONGEST), PAD)
    for row, caption in enumerate(captions):
        tokens = [BOS, *(vocabulary[word] for word in caption.split()), EOS]
        ids[row, : len(tokens)] = tokens
    return torch.from_numpy(ids)


def build(seed: int) -> CLIPModel:
    """Return the untrained model. Hugging Face's initial embeddings are far too small for 64 dimensions: these have
    0.05.
    """
    torch.manual_seed(seed)
    shared: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 192,
        "num_attention_heads": 4,
        "projection_dim": 64,
        "initializer_range": 0.05,
    }
    vision = CLIPVisionConfig(num_hidden_layers=4, image_size=SIDE, patch_size=PATCH, **shared)
    text = CLIPTextConfig(
        num_hidden_layers=3,
        vocab_size=len(caption_tokenizer()),
        max_position_embeddings=LONGEST,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        **shared,
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64)
    model = CLIPModel(config)
    with torch.no_grad():
        for table in (
            model.text_model.embeddings.token_embedding,
            model.text_model.embeddings.position_embedding,
            model.vision_model.embeddings.position_embedding,
        ):
            table.weight.normal_(std=0.05)
    return model


class TaughtCLIP(nn.Module):
    """The model with the heads that are thrown away."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model
        self.heads = PatchHeads(WIDTH, HEADS)

    def forward(
        self, pixels: Float[Tensor, "picture 3 height width"], ids: Int[Tensor, "caption token"]
    ) -> tuple[Float[Tensor, "caption caption"], Float[Tensor, "picture patch d_model"]]:
        """Return similarities of the first pictures with all captions, scaled, and the features of all patches."""
        seen = self.model.vision_model(pixels)
        pictures = normalize(self.model.visual_projection(seen.pooler_output[: len(ids)]), dim=-1)
        read = self.model.text_model(ids).pooler_output
        captions = normalize(self.model.text_projection(read), dim=-1)
        scale = self.model.logit_scale.clamp(max=np.log(100)).exp()
        return scale * pictures @ captions.T, seen.last_hidden_state[:, 1:]


def learn(
    model: CLIPModel,
    *,
    seed: int,
    steps: int = STEPS,
    batch: int = BATCH,
    extra: int = EXTRA,
    checkpoint: Path | None = None,
) -> tuple[Fit, dict[str, float]]:
    """Train both towers together.

    Returns:
        What it took, and the share of patches whose colour, shape and size the heads say on pictures never seen.
    """
    taught, tokenizer = TaughtCLIP(model), caption_tokenizer()
    recent: list[float] = []

    def loss_of_step(step: int) -> Tensor:
        pixels, layout = draw_many(seed, range(step * batch, (step + 1) * batch), WORLD)
        more, more_labels, _ = pictures_of_step(seed + 1, step, extra, CROWDED)
        labels = patch_labels(layout, WORLD)
        labels = {name: torch.cat([labels[name], more_labels[name]]) for name in labels}
        captions = [caption_of(sorted(things_of(layout, i), key=lambda t: t.slot)) for i in range(batch)]
        alike, patches = taught(torch.cat([pixel_values(pixels), more]), caption_ids(captions, tokenizer))
        wanted = torch.arange(batch)
        recent.append((alike.argmax(1) == wanted).float().mean().item())
        contrast = (cross_entropy(alike, wanted) + cross_entropy(alike.T, wanted)) / 2
        return contrast + 0.5 * taught.heads.loss(patches, labels)

    def right() -> dict[str, float]:
        pixels, labels, _ = pictures_of_step(seed + 2, 0, 256, WORLD)
        return taught.heads.right(taught.model.vision_model(pixels).last_hidden_state[:, 1:], labels)

    def watch(step: int) -> str:
        said = ", ".join(f"{name} {value:.3f}" for name, value in right().items())
        return f"{BATCH} captions: {np.mean(recent[-50:]):.3f}; patches: {said}"

    phase = fit(
        taught,
        loss_of_step,
        optimisers=mixed_optimisers(taught, lr=0.02, outer_lr=2e-3),
        steps=steps,
        warmup=50,
        decay=0.59,
        watch=watch,
        checkpoint=checkpoint,
        checkpoint_every=100,
    )
    with torch.no_grad():
        return phase, right()


def train(
    seed: int, scratch: Path | None = None, *, steps: int = STEPS, batch: int = BATCH, extra: int = EXTRA
) -> Trained:
    """Return one phase: match pictures and captions, and say what each patch shows."""
    model = build(seed)
    checkpoint = None if scratch is None else scratch / "clip.pt"
    phase, patches = learn(model, seed=seed, steps=steps, batch=batch, extra=extra, checkpoint=checkpoint)
    return Trained(
        model=model,
        tokenizer=caption_tokenizer(),
        phases={"pictures and captions": phase},
        data={"seconds of one core": phase.core_seconds}
        | {f"{name} of patches, through the heads thrown away": round(v, 4) for name, v in patches.items()},
        beside={"preprocessor_config.json": PREPROCESSOR | {"image_processor_type": "CLIPImageProcessor"}},
    )


def opens(directory: Path) -> CLIPModel:
    """Return the saved model as plain transformers opens it."""
    return CLIPModel.from_pretrained(directory).eval()


def similarities(
    model: CLIPModel, pixels: np.ndarray, captions: Sequence[str]
) -> Float[Tensor, "picture caption"]:
    """Return cosine similarities, from -1 to 1, by plain transformers."""
    out = model(input_ids=caption_ids(list(captions), caption_tokenizer()), pixel_values=pixel_values(pixels))
    return out.image_embeds @ out.text_embeds.T


def captioned(
    seed: int, start: int, count: int, world: World
) -> tuple[np.ndarray, list[str], list[list[Thing]]]:
    """Return pictures with captions, and their objects in the order of drawing."""
    pixels, layout = draw_many(seed, range(start, start + count), world)
    things = [sorted(things_of(layout, i), key=lambda thing: thing.slot) for i in range(count)]
    return pixels, [caption_of(each) for each in things], things


def right_at_one(alike: Float[Tensor, "row column"], captions: Sequence[str]) -> list[bool]:
    """Say whether the most similar caption of each picture says the same as its own."""
    return [captions[best] == captions[row] for row, best in enumerate(alike.argmax(1).tolist())]


def exchanged(things: Sequence[Thing]) -> str:
    """Return the caption of two objects with their colours exchanged."""
    first, second = things[:2]
    return caption_of(
        [replace(first, colour=second.colour), replace(second, colour=first.colour), *things[2:]]
    )


TURNED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def turned(caption: str) -> str | None:
    """Return the caption with its relation turned around; None if it has none."""
    found = next((r for r in TURNED if f" {r} " in caption), None)
    return None if found is None else caption.replace(f" {found} ", f" {TURNED[found]} ")


@torch.no_grad()
def measure(model: CLIPModel) -> list[CardNumber]:
    """Return retrieval among 256, by number of objects; binding and relations by captions with one thing wrong."""
    found, whole, backwards = [], [], []
    for turn in range(SETS):
        pixels, captions, _ = captioned(HELD_OUT, 256 * turn, 256, MEASURED)
        alike = similarities(model, pixels, captions)
        whole += right_at_one(alike, captions)
        backwards += right_at_one(alike.T, captions)
    found.append(_share("picture to text @ 1 of 256", whole, needs=0.95))
    found.append(_share("text to picture @ 1 of 256", backwards))
    for n in (2, 3, 4):
        world = World(objects=tuple(float(i == n) for i in range(1, 5)))
        pixels, captions, _ = captioned(HELD_OUT + n, 0, 256, world)
        right = right_at_one(similarities(model, pixels, captions), captions)
        found.append(_share(f"picture to text @ 1 of 256, all of {NUMBERS[n]} objects", right))
    return [
        *found,
        _share("colours of two objects not exchanged", _binding(model), needs=0.8),
        *_relations(model),
    ]


def _binding(model: CLIPModel) -> list[bool]:
    """Pictures of two objects: the caption against the one with the colours exchanged."""
    pixels, captions, things = captioned(HELD_OUT + 5, 0, 512, World(objects=(0, 1), alike=0.0))
    keep = [i for i, (a, b) in enumerate(things) if a.colour != b.colour and a.shape != b.shape]
    other = [exchanged(things[i]) for i in keep]
    return _prefers(model, pixels[keep], [captions[i] for i in keep], other)


def _relations(model: CLIPModel) -> list[CardNumber]:
    """Pictures of two neighbours: the caption against the one with the relation turned around."""
    pixels, captions, _ = captioned(HELD_OUT + 6, 0, 1024, World(objects=(0, 1)))
    other = {i: wrong for i, caption in enumerate(captions) if (wrong := turned(caption)) is not None}
    keep = list(other)
    right = _prefers(model, pixels[keep], [captions[i] for i in keep], list(other.values()))
    return [_share("relation of two neighbours not turned around", right, needs=0.8)]


def _prefers(model: CLIPModel, pixels: np.ndarray, own: list[str], other: list[str]) -> list[bool]:
    """Whether each picture is more similar to its own caption than to the other."""
    half = similarities(model, pixels, own).diagonal(), similarities(model, pixels, other).diagonal()
    return (half[0] > half[1]).tolist()


def _share(name: str, right: list[bool], needs: float | None = None) -> CardNumber:
    return CardNumber(name=name, value=float(np.mean(right)), n=len(right), needs=needs)


RECIPE = TrainingRecipe(
    name="clip",
    title="a small CLIP of drawn pictures and their captions",
    what="CLIP: a picture tower of 4 layers and a text tower of 3, each with 4 heads and width 64. Matches pictures of "
    "48 x 48 pixels with captions such as 'large red star left of small blue disc and large cyan cross'; the objects "
    "come in the order of drawing, not of reading. A caption stands between `<bos>` and `<eos>`.",
    train=train,
    measure=measure,
    opens=opens,
    held_out={
        "pictures": "drawn from numbers that training never uses; a caption that says the same counts as right"
    },
    limits=(
        "words other than those of captions: it answers no questions",
        "left and right, above and below: relations stay at chance, as in CLIPs of full size",
        "its picture tower is planted in part: a dense loss taught patches to say colour, shape and size",
    ),
)
