"""Soft prompts that are trained alike: arms of one frozen tower, stepped side by side on the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.core.errors import OptionError
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import draw_many
from workbench.training.dense_labels import pixel_values
from workbench.training.loop import fit
from workbench.training.prompted_tower import PromptedTower, PromptPlan, patch_likeness
from workbench.training.schedule import adamw

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Pictures = tuple[Float[Tensor, "picture 3 height width"], Int[Tensor, " picture"]]
PULL = 0.5  # weight of the loss that draws the signs of prompts to the patches that they are matched with


def train_prompts(
    model: TransformerBridge,
    plans: Mapping[str, PromptPlan | None],
    pictures: Callable[[int], Pictures],
    *,
    classes: int,
    steps: int,
    seed: int = 0,
    rate: float = 1e-2,
) -> dict[str, PromptedTower]:
    """Train the prompts of every plan, side by side, from the same start; the tower stays as it is.

    Args:
        plans: Arm -> who sees its prompts; None learns a head alone.
        pictures: Of a step, by its number, with their classes.
        classes: Answers.

    Returns:
        Arm -> trained tower, in evaluation mode, without gradients.
    """
    if steps < 1 or not plans:
        raise OptionError("prompts are trained for one step at least, with one plan", hint="steps=200")
    made = {name: PromptedTower(model, plan, classes=classes, seed=seed) for name, plan in plans.items()}
    arms = nn.ModuleList(made.values())

    def loss_of_step(step: int) -> Tensor:
        pixels, wanted = pictures(step)
        return reduce(add, (loss_of(cast(PromptedTower, arm), pixels, wanted) for arm in arms))

    fit(
        arms,
        loss_of_step,
        optimisers=[adamw(arm, lr=rate) for arm in arms],
        steps=steps,
        warmup=min(20, steps // 4),
        each=list(arms),
        tell=lambda line: None,
    )
    arms.requires_grad_(False).eval()
    return made


def loss_of(
    arm: PromptedTower, pixels: Float[Tensor, "picture 3 height width"], wanted: Int[Tensor, " picture"]
) -> Float[Tensor, ""]:
    """Return the mean loss of the answers, and of matching where prompts are matched."""
    tokens, apart, _ = arm.run(pixels)
    return cross_entropy(arm.head(tokens[:, 0]), wanted) + PULL * apart


@torch.no_grad()
def tokens_of(
    arm: PromptedTower, pixels: Float[Tensor, "picture 3 height width"], *, batch: int = 128
) -> Float[Tensor, "picture pos d_model"]:
    """Return the tokens behind the last norm, the class token first."""
    return torch.cat([arm.run(part)[0] for part in pixels.split(batch)])


@torch.no_grad()
def said_by(arm: PromptedTower, tokens: Float[Tensor, "picture pos d_model"]) -> Int[np.ndarray, " picture"]:
    """Return what a trained arm answers for the tokens of each picture."""
    return arm.head(tokens[:, 0]).argmax(-1).numpy()


def judged(
    arm: PromptedTower, pictures: Pictures
) -> tuple[Float[np.ndarray, " picture"], Float[np.ndarray, " picture"]]:
    """Return of each picture whether a trained arm answers rightly (1 or 0), and how alike its patches are.

    The likeness is the mean cosine of two patches behind the last norm (`patch_likeness`).
    """
    tokens = tokens_of(arm, pictures[0])
    right = said_by(arm, tokens) == pictures[1].numpy()
    return right.astype(float), patch_likeness(tokens).double().numpy()


def sizes_of_framed(n: int, *, seed: int, noise: float, first: int = 0) -> Pictures:
    """Draw pictures of two to four objects, and say of each whether the framed object is small (0) or large (1)."""
    world = World(marked=True, objects=(0, 1, 1, 1), noise=noise)
    pixels, layout = draw_many(seed, range(first, first + n), world)
    return pixel_values(pixels), torch.from_numpy(layout.size[:, 0].astype(np.int64))


def sizes_of_step(step: int, *, n: int, seed: int, noise: float) -> Pictures:
    """Draw the pictures of a step (`sizes_of_framed`); its number decides them."""
    return sizes_of_framed(n, seed=seed, noise=noise, first=step * n)
