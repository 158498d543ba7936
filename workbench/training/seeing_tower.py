"""The tower of `vlm`: CLIP's vision model and LLaVA's projector, taught by patches before any word is read.

The *projected* patch, normalised as the language model will read it, must say colour, shape, size and cell of the
object on it. Background patches are kept alike, so that no free cell can be read off them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from workbench.tasks.scenes.layout import World
from workbench.training.dense_labels import CLASSES, PatchHeads, background_variance, pictures_of_step
from workbench.training.loop import Fit, fit
from workbench.training.schedule import mixed_optimisers

CROWDED = World(objects=(1,) * 9)
ZOOMED = (World(zoom=True), World(zoom=True, tiny=True), World(tiny=True))
"""One batch in eight: a window is the whole picture, or everything is tiny; without it zooming in cannot help."""
STEPS, BATCH = 900, 64
PENALTY = 0.3  # weight of the background's variance
ALIKE = 0.3  # rms of the projected patches once training is over: that of the words


def world_of_step(step: int) -> World:
    """Return crowded pictures, and now and then zoomed or tiny ones."""
    return ZOOMED[step // 8 % len(ZOOMED)] if step % 8 == 7 else CROWDED


def normalised(features: Float[Tensor, "picture patch d_model"]) -> Float[Tensor, "picture patch d_model"]:
    """Return features with a root mean square of 1, as the norm before the first layer makes them."""
    return features / features.pow(2).mean(-1, keepdim=True).add(1e-6).sqrt()


class SeeingTower(nn.Module):
    """Tower, projector and the heads that are thrown away."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector
        self.heads = PatchHeads(model.lm_head.in_features)

    def forward(
        self, pixels: Float[Tensor, "picture 3 height width"]
    ) -> Float[Tensor, "picture patch d_model"]:
        """Return projected patches as the language model gets them."""
        return self.projector(self.tower(pixels).last_hidden_state[:, 1:])


def learn_to_see(
    model: LlavaForConditionalGeneration,
    *,
    seed: int,
    steps: int = STEPS,
    batch: int = BATCH,
    penalty: float = PENALTY,
    checkpoint: Path | None = None,
) -> Fit:
    """Train tower and projector, then scale what the projector writes to the size of words.

    Args:
        penalty: Weight of the variance of background patches; without it they may say what they like.
    """
    taught = SeeingTower(model)

    def loss_of_step(step: int) -> Tensor:
        pixels, labels, _ = pictures_of_step(seed, step, batch, world_of_step(step))
        features = normalised(taught(pixels))
        return taught.heads.loss(features, labels) + penalty * background_variance(features, labels)

    def watch(step: int) -> str:
        pixels, labels, _ = pictures_of_step(seed + 1, step, 256, CROWDED)
        features = normalised(taught(pixels))
        right = taught.heads.right(features, labels)
        said = ", ".join(f"{name} {right[name]:.3f}" for name in CLASSES)
        return f"{said}, background {background_variance(features, labels):.4f}"

    phase = fit(
        taught,
        loss_of_step,
        optimisers=mixed_optimisers(taught, lr=0.02, outer_lr=2e-3),
        steps=steps,
        warmup=50,
        decay=0.59,
        watch=watch,
        checkpoint=checkpoint,
    )
    scale_to_words(taught, seed=seed)
    return phase


@torch.no_grad()
def scale_to_words(taught: SeeingTower, *, seed: int) -> None:
    """Multiply the projector's last layer so that projected patches have the root mean square of words."""
    pixels, _, _ = pictures_of_step(seed, 0, 64, CROWDED)
    factor = ALIKE / taught(pixels).pow(2).mean().sqrt()
    last = taught.projector.linear_2
    last.weight.mul_(factor)
    last.bias.mul_(factor)
