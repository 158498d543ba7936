"""`marked`: a small ViT that names the object in the white frame.

Training adds a dense loss: the patches of the last layer but one say colour, shape and size of what they show
through linear heads that are thrown away. Without it the model learns far slower.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification

from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import draw_many
from workbench.tasks.scenes.words import COLOURS, NUMBERS, PATCH, SHAPES, SIDE
from workbench.training.dense_labels import PREPROCESSOR, PatchHeads, pictures_of_step, pixel_values
from workbench.training.loop import fit
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.schedule import mixed_optimisers

CLASS_NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
WORLD = World(marked=True)
CROWDED = World(marked=True, objects=(1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5))
"""Training also has pictures with more objects: most patches teach."""
STEPS, BATCH = 3000, 64
HELD_OUT, EACH = 1_000_000, 500  # seed and number of the pictures that it is measured on


def build(seed: int) -> ViTForImageClassification:
    """Return the untrained model."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
        id2label=dict(enumerate(CLASS_NAMES)),
        label2id={name: index for index, name in enumerate(CLASS_NAMES)},
    )
    return ViTForImageClassification(config)


def classes(layout: SceneLayout) -> Tensor:
    """Return the right class of each picture: colour and shape of the first object."""
    return torch.from_numpy(layout.colour[:, 0].astype("int64") * len(SHAPES) + layout.shape[:, 0])


class TaughtViT(nn.Module):
    """The model with the heads that are thrown away."""

    def __init__(self, model: ViTForImageClassification) -> None:
        super().__init__()
        self.model = model
        self.heads = PatchHeads(model.config.hidden_size, ("colour", "shape", "size"))


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS, batch: int = BATCH) -> Trained:
    """Return one phase: name the marked object, and say what each patch shows."""
    taught = TaughtViT(build(seed))
    recent: list[float] = []

    def loss_of_step(step: int) -> Tensor:
        pixels, labels, layout = pictures_of_step(seed, step, batch, CROWDED if step % 2 else WORLD)
        out = taught.model(pixels, output_hidden_states=True)
        wanted = classes(layout)
        recent.append((out.logits.argmax(-1) == wanted).float().mean().item())
        dense = taught.heads.loss(out.hidden_states[-2][:, 1:], labels)
        return cross_entropy(out.logits, wanted) + dense

    phase = fit(
        taught,
        loss_of_step,
        optimisers=mixed_optimisers(taught, lr=0.02, outer_lr=2e-3),
        steps=steps,
        warmup=50,
        decay=0.59,
        watch=lambda step: f"names {sum(recent[-100:]) / len(recent[-100:]):.3f}",
        checkpoint=None if scratch is None else scratch / "marked.pt",
    )
    return Trained(
        model=taught.model,
        phases={"pictures": phase},
        data={"seconds of one core": phase.core_seconds},
        beside={"preprocessor_config.json": PREPROCESSOR | {"image_processor_type": "ViTImageProcessor"}},
    )


def opens(directory: Path) -> ViTForImageClassification:
    """Return the saved model as plain transformers opens it."""
    return ViTForImageClassification.from_pretrained(directory).eval()


@torch.no_grad()
def measure(model: ViTForImageClassification) -> list[CardNumber]:
    """Return accuracy on pictures never seen, by number of objects, and which half of the name is right."""
    found, every = [], []
    for n in range(1, 5):
        world = replace(WORLD, objects=tuple(float(i == n) for i in range(1, 5)))
        pixels, layout = draw_many(HELD_OUT + n, range(EACH), world)
        said = model(pixel_values(pixels)).logits.argmax(-1)
        every.append(torch.stack([said, classes(layout)]))
        right = (said == every[-1][1]).float().mean().item()
        found.append(CardNumber(name=f"marked object, {NUMBERS[n]} in the picture", value=right, n=EACH))
    said, wanted = torch.cat(every, dim=1)
    kinds = {
        "marked object, colour and shape": said == wanted,
        "its colour": said // len(SHAPES) == wanted // len(SHAPES),
        "its shape": said % len(SHAPES) == wanted % len(SHAPES),
    }
    whole = [
        CardNumber(name=name, value=right.float().mean().item(), n=4 * EACH, needs=0.95)
        for name, right in kinds.items()
    ]
    noisy = replace(WORLD, noise=0.12)
    pixels, layout = draw_many(HELD_OUT, range(EACH), noisy)
    right = (model(pixel_values(pixels)).logits.argmax(-1) == classes(layout)).float().mean().item()
    return [*whole, *found, CardNumber(name="marked object, pixel noise 0.12", value=right, n=EACH)]


RECIPE = TrainingRecipe(
    name="marked",
    title="a small ViT that names the object in the white frame",
    what="ViT: 3 layers, 4 heads, width 64, patches of 8 pixels, 30 classes such as 'red star'. Sees pictures of "
    "48 x 48 pixels with one to four coloured shapes, one of them in a white frame, and says what it is.",
    train=train,
    measure=measure,
    opens=opens,
    held_out={
        "pictures": "drawn from numbers that training never uses; every combination of colour and shape is trained"
    },
    limits=(
        "pictures of another world or another size",
        "its features are planted: a dense loss taught the patches of layer 2 to say colour, shape and size, so only "
        "the search for the frame is learned from the answer",
    ),
)
