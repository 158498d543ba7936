"""Greedy reveal (NevaClip): everything is blurred, and the part whose return would help a caption most comes back next.

The order in which parts come back is a scanpath: where something would look that tries to see what the caption says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from workbench.core.errors import OptionError, ShapeError
from workbench.heads.image_text import grid_of, require_clip
from workbench.heads.span_representation import phrase_directions

Score = Callable[[Tensor], Tensor]
"""From how much of each part is seen, ``(item, part)`` from 0 to 1, to one number per item that is to grow."""


def greedy_reveal(score: Score, *, items: int, parts: int, steps: int) -> Int[np.ndarray, "item step"]:
    """Reveal one part after the other, always the one with the largest slope of the score.

    Args:
        score: Must be differentiable in how much of each part is seen.
        steps: How many parts are revealed, at most all.

    Returns:
        Numbers of the parts in the order in which they are revealed.

    Raises:
        OptionError: for fewer than one step, or more than there are parts.
        ShapeError: if the score is not one number per item.

    Source:
        NevaClip, 2023; the abstract alone was read.

    Example:
        >>> weights = torch.tensor([[0.1, 0.5, 0.3]])
        >>> greedy_reveal(lambda seen: (seen * weights).sum(1), items=1, parts=3, steps=3).tolist()
        [[1, 2, 0]]
    """
    if not 1 <= steps <= parts:
        raise OptionError(f"steps is {steps}; 1 to {parts} are expected", hint=f"steps={parts}")
    seen, order = torch.zeros(items, parts), []
    for _ in range(steps):
        now = seen.clone().requires_grad_()
        with torch.enable_grad():
            value = score(now)
            if value.shape != (items,):
                raise ShapeError(
                    f"the score is of shape {tuple(value.shape)}; one number for each of {items} items is expected",
                    hint="return a tensor of one axis",
                )
            (slope,) = torch.autograd.grad(value.sum(), now)
        chosen = slope.masked_fill(seen > 0, -torch.inf).argmax(1)
        seen[torch.arange(items), chosen] = 1.0
        order.append(chosen)
    return torch.stack(order, 1).numpy()


def caption_score(
    model: Any, pixels: UInt8[np.ndarray, "picture height width 3"], captions: Sequence[str]
) -> Score:
    """Make the score of pictures and captions: their similarity in a CLIP, with patches blurred that are not seen.

    A patch that is not seen has the mean colour of the whole picture; one that is half seen lies between.

    Returns:
        A function of how much of each patch is seen; cosines from -1 to 1.

    Raises:
        ModelError: for a model that has no space for pictures and captions.
        ShapeError: for another number of captions than pictures.
    """
    original, (rows, columns) = require_clip(model), grid_of(model)
    if len(captions) != len(pixels):
        raise ShapeError(
            f"{len(captions)} captions are given for {len(pixels)} pictures", hint="give one for each picture"
        )
    sharp = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1
    blurred = sharp.mean((2, 3), keepdim=True).expand_as(sharp)
    wanted = phrase_directions(model, list(captions))
    high, wide = sharp.shape[2] // rows, sharp.shape[3] // columns

    def score(seen: Tensor) -> Tensor:
        at = seen.reshape(-1, 1, rows, columns)
        at = at.repeat_interleave(high, 2).repeat_interleave(wide, 3)
        shown = (at * sharp + (1 - at) * blurred).to(original.device, original.dtype)
        picture = original.visual_projection(original.vision_model(pixel_values=shown).pooler_output)
        return (normalize(picture, dim=-1) * wanted).sum(-1)

    return score


def first_inside(
    order: Int[np.ndarray, "item step"], inside: Bool[np.ndarray, "item part"]
) -> Float[np.ndarray, " item"]:
    """Return the step at which a part of each mask is revealed first, from 1; one more than there are steps if none is.

    Example:
        >>> first_inside(np.array([[2, 0, 1]]), np.array([[True, False, False]])).tolist()
        [2.0]
    """
    found = np.take_along_axis(inside, order, axis=1)
    return np.where(found.any(1), found.argmax(1), order.shape[1]).astype(float) + 1


def at_random(items: int, parts: int, steps: int, rng: np.random.Generator) -> Int[np.ndarray, "item step"]:
    """Reveal parts in a random order, the control of a scanpath."""
    return np.argsort(rng.random((items, parts)), axis=1)[:, :steps]


def shared_parts(
    one: Int[np.ndarray, "item step"], other: Int[np.ndarray, "item step"]
) -> Float[np.ndarray, " item"]:
    """Return what share of the parts of one order are in another one of as many steps, whatever their places.

    Example:
        >>> shared_parts(np.array([[0, 1, 2, 3]]), np.array([[3, 9, 0, 8]])).tolist()
        [0.5]
    """
    return (one[:, :, None] == other[:, None, :]).any(2).mean(1)


@torch.no_grad()
def seen_score(
    score: Score, order: Int[np.ndarray, "item step"], *, parts: int
) -> Float[np.ndarray, " item"]:
    """Return the score of every item when the parts of an order are seen and nothing else."""
    seen = torch.zeros(len(order), parts)
    seen.scatter_(1, torch.from_numpy(order), 1.0)
    return score(seen).double().cpu().numpy()
