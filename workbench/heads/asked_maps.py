"""Where a model that was asked a question looks in its picture: three maps over patches, without training.

Weights of a head are compared with those under a general instruction, or multiplied by what they are worth to the
answer; or the answer's slope along every pixel is taken. None of them needs to know the right answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ModelError, ShapeError
from workbench.heads.asked_pictures import picture_positions
from workbench.heads.span_attention import span_attention
from workbench.model.hooks import forward, hook_name
from workbench.model.probe import wiring
from workbench.model.prompt import Extras, Prompt
from workbench.model.sight import sight_of
from workbench.tasks.pictures.sight import Sight

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FLOOR = 1e-6  # of a general weight: what is divided by is never nothing


@torch.no_grad()
def relative_attention(
    model: TransformerBridge, prompt: Prompt, general: Prompt, *, rows: int = 128
) -> Float[np.ndarray, "row layer patch_row patch_column"]:
    """Divide the attention of the last token to every patch by that under a general instruction, heads averaged.

    Args:
        general: The same pictures with a general instruction behind them.

    Returns:
        One map per prompt and layer, at least 0; 1 where the question changes nothing.

    Raises:
        ShapeError: if the two are not of the same pictures in number and place.

    Source:
        Zhang et al. 2025, MLLMs Know Where to Look.
    """
    own, plain = (_mean_attention(model, each, rows) for each in (prompt, general))
    if own.shape != plain.shape:
        raise ShapeError(
            f"maps of {own.shape} are divided by maps of {plain.shape}",
            hint="give both prompts the same number of rows and the same picture size",
        )
    return own / np.maximum(plain, FLOOR)


def gradient_attention(
    model: TransformerBridge, prompt: Prompt, *, rows: int = 128
) -> Float[np.ndarray, "row layer patch_row patch_column"]:
    """Multiply the last token's attention to every patch by what more of it would add to the answer, heads averaged.

    ``mean over heads of A * relu(d log p(answer) / d A)``, where the answer is what the model itself finds most likely.

    Returns:
        One map per prompt and layer, in nats, at least 0.

    Raises:
        ModelError: if edits of patterns do not reach the output: their slopes would be 0.

    Source:
        Zhang et al. 2025, MLLMs Know Where to Look.
    """
    wired, sight = wiring(model), _sight(model)
    if "pattern" not in wired.live:
        raise ModelError(
            "the model's patterns are not live, and have no slopes", hint="open it with eager attention"
        )
    names = [hook_name("pattern", layer) for layer in wired.attention_layers]
    found = []
    for part in prompt.split(rows):
        held: dict[str, Tensor] = {}

        def leaf(pattern: Tensor, hook, held: dict[str, Tensor] = held) -> Tensor:
            held[hook.name] = pattern if pattern.requires_grad else pattern.detach().requires_grad_()
            return held[hook.name]

        with torch.enable_grad(), model.hooks(fwd_hooks=[(name, leaf) for name in names]):
            answer = _answer(model, part)
            slopes = torch.autograd.grad(answer, [held[name] for name in names])
        worth = [
            held[n].detach()[:, :, -1] * slope[:, :, -1].relu()
            for n, slope in zip(names, slopes, strict=True)
        ]
        found.append(_patches(torch.stack([each.mean(1) for each in worth], 1), part, sight))
    return np.concatenate(found)


def pure_gradient(
    model: TransformerBridge, prompt: Prompt, general: Prompt, *, rows: int = 128
) -> Float[np.ndarray, "row patch_row patch_column"]:
    """Take how steeply the answer changes with the pixels of every patch, divided by that under a general instruction.

    The norm over channels of ``d log p(answer) / d pixel``, of pixels whose picture has more than the median of edges,
    averaged over a patch.

    Returns:
        One map per prompt, at least 0.

    Raises:
        ShapeError: if the two are not of as many pictures.

    Source:
        Zhang et al. 2025, MLLMs Know Where to Look.
    """
    if len(prompt) != len(general):
        raise ShapeError(
            f"{len(prompt)} prompts are compared with {len(general)}",
            hint="give one general prompt for each prompt",
        )
    sight, found = _sight(model), []
    for own, plain in zip(prompt.split(rows), general.split(rows), strict=True):
        steep = _steepness(model, own) / _steepness(model, plain).clamp(min=FLOOR)
        steep = steep * _edges(own.extras["pixel_values"])
        high, wide = (size // n for size, n in zip(steep.shape[1:], sight.grid, strict=True))
        blocks = steep.reshape(len(steep), sight.grid[0], high, sight.grid[1], wide)
        found.append(blocks.mean((2, 4)).double().cpu().numpy())
    return np.concatenate(found)


def _answer(model: TransformerBridge, prompt: Prompt) -> Tensor:
    """Log probability of what the model itself finds most likely, added up over prompts."""
    return forward(model, prompt, last_only=True)[:, -1].log_softmax(-1).amax(-1).sum()


def _mean_attention(model: TransformerBridge, prompt: Prompt, rows: int) -> np.ndarray:
    given = span_attention(model, prompt, rows=rows).mean(2)
    return given.reshape(*given.shape[:2], *_sight(model).grid)


def _patches(weights: Float[Tensor, "row layer key"], prompt: Prompt, sight: Sight) -> np.ndarray:
    kept = weights[..., list(picture_positions(prompt, sight))].double().cpu().numpy()
    return kept.reshape(*kept.shape[:-1], *sight.grid)


def _steepness(model: TransformerBridge, prompt: Prompt) -> Float[Tensor, "row height width"]:
    pixels = prompt.extras["pixel_values"].detach().requires_grad_()
    extras = {name: pixels if name == "pixel_values" else prompt.extras[name] for name in prompt.extras}
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(_answer(model, Prompt(prompt.ids, Extras.of(extras))), [pixels])
    return slope.norm(dim=-3)


def _edges(pixels: Float[Tensor, "row channel height width"]) -> Float[Tensor, "row height width"]:
    """1 where a pixel differs from the mean of those around it by more than the median of its picture, else 0."""
    around = torch.nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    energy = (pixels - around).norm(dim=1)
    return (energy > energy.flatten(1).median(1).values[:, None, None]).to(pixels)


def _sight(model: TransformerBridge) -> Sight:
    sight = sight_of(model)
    if sight is None or sight.token is None:
        raise ModelError("a model that reads a picture and words is expected", hint="-m zoo:vlm")
    return sight
