"""Relevance of every pixel of a picture to what a classifier says, by any backward rule; areas of such maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from workbench.core.errors import ModelError, ShapeError
from workbench.engine.backward import backward_rule
from workbench.engine.gradients import frozen
from workbench.engine.rules import Backward
from workbench.model.probe import wiring
from workbench.model.prompt import Extras, Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def pixel_relevance(
    model: TransformerBridge,
    prompt: Prompt,
    classes: Int[np.ndarray, " picture"],
    *,
    backward: Backward,
    rows: int = 64,
) -> Float[np.ndarray, "picture height width"]:
    """Hand the logit of a class back to the pixels: pixel times gradient by a backward rule, summed over channels.

    Pixels are those that the model reads, after its normalisation.

    Args:
        prompt: One row per picture.
        classes: Whose logit it is, one per picture.
        rows: Pictures in one pass.

    Returns:
        Relevance in logits; positive supports the class. With ``cp-lrp`` a model without biases, positions and class
        token hands back its whole logit.

    Raises:
        ModelError: if the prompt has no pictures, the model answers at more than one position, or the rule does not
            apply to it.

    Source:
        Li et al. 2017; rules of Achtibat et al. 2024, arXiv:2402.05602.
    """
    if "pixel_values" not in prompt.extras:
        raise ModelError("the prompt has no pictures", hint="-m zoo:marked, and pictures of its size")
    parts = [np.arange(len(classes))[at : at + rows] for at in range(0, len(classes), rows)]
    found = [_of_part(model, prompt[slice(part[0], part[-1] + 1)], classes[part], backward) for part in parts]
    return np.concatenate(found)


def _of_part(
    model: TransformerBridge, prompt: Prompt, classes: np.ndarray, backward: Backward
) -> Float[np.ndarray, "picture height width"]:
    """Relevance of the pixels of some pictures, in one pass."""
    pixels = prompt.extras["pixel_values"].detach().clone().requires_grad_()
    extras = {name: prompt.extras[name] for name in prompt.extras} | {"pixel_values": pixels}
    with torch.enable_grad(), frozen(model), backward_rule(model, wiring(model), backward) as rules:
        with model.hooks(fwd_hooks=[*rules.before, *rules.after]):
            logits = model(prompt.ids, **Extras.of(extras))
        if logits.ndim != 3 or logits.shape[1] != 1:
            raise ModelError(
                f"the model answers with {tuple(logits.shape[1:])} logits a picture; a classifier answers once",
                hint="-m zoo:marked",
            )
        asked = logits[torch.arange(len(classes)), 0, torch.as_tensor(classes, device=logits.device)]
        (slope,) = torch.autograd.grad(asked.sum(), pixels)
    return (pixels.detach() * slope).sum(1).double().cpu().numpy()


def in_cells(
    values: Float[np.ndarray, "*batch height width"], side: int
) -> Float[np.ndarray, "*batch row column"]:
    """Sum the sizes of values over cells of so many pixels.

    Raises:
        ShapeError: if cells do not divide the picture.

    Example:
        >>> in_cells(np.array([[1.0, -2.0], [0.0, 3.0]]), 2).tolist()
        [[6.0]]
    """
    height, width = values.shape[-2:]
    if side < 1 or height % side or width % side:
        raise ShapeError(
            f"cells of {side} pixels do not divide a picture of {height} x {width}",
            hint="a side that divides both, such as 1",
        )
    split = np.abs(values).reshape(*values.shape[:-2], height // side, side, width // side, side)
    return split.sum((-3, -1))


def strongest(
    values: Float[np.ndarray, "*batch row column"], n: int | Int[np.ndarray, "*batch"]
) -> Bool[np.ndarray, "*batch row column"]:
    """Return the area of the ``n`` largest values of each map; of equal values those that come first.

    Example:
        >>> strongest(np.array([[0.1, 0.4], [0.3, 0.2]]), 2).tolist()
        [[False, True], [True, False]]
    """
    flat = values.reshape(*values.shape[:-2], -1)
    rank = np.argsort(np.argsort(-flat, axis=-1, kind="stable"), axis=-1)
    return (rank < np.asarray(n)[..., None]).reshape(values.shape)


def moved_at_random(
    values: Float[np.ndarray, "*batch row column"], rng: np.random.Generator
) -> Float[np.ndarray, "*batch row column"]:
    """Move each map by a random number of rows and columns, around the edges: the same areas at another place.

    Example:
        >>> moved_at_random(np.eye(2)[None], np.random.default_rng(0)).sum()
        np.float64(2.0)
    """
    flat = values.reshape(-1, *values.shape[-2:])
    steps = rng.integers(0, flat.shape[-2:], (len(flat), 2))
    moved = [np.roll(each, step, axis=(0, 1)) for each, step in zip(flat, steps.tolist(), strict=True)]
    return np.array(moved).reshape(values.shape)
