"""Edit a picture by the difference of two velocities, without inverting it: what one caption says and another not.

The edited picture moves by ``v(noisy edited, target) - v(noisy source, source)``, both made noisy by the same noise.
Where the captions agree the two are equal and nothing moves. A mask over patches keeps the rest of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.model.flow_painter.sample import (
    GUIDANCE,
    STEPS,
    check_sampling,
    from_pixels,
    noisy,
    predict,
    require_painter,
    to_pixels,
    velocity,
)
from workbench.model.hooks import hook_name
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Item
from workbench.tasks.canvas.picture_reader import read_picture
from workbench.tasks.canvas.words import GRID, PATCH

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Captions = Sequence[Sequence[Item]]


@torch.no_grad()
def flow_edit(
    model: TransformerBridge,
    pictures: Float[Tensor, "row side side 3"],
    source: Captions,
    target: Captions,
    *,
    mask: Bool[Tensor, "row down across"] | None = None,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    first: int = 4,
) -> Float[Tensor, "row side side 3"]:
    """Change pictures from what one caption says to what another says.

    Args:
        pictures: Between 0 and 1; ``source`` is true of them.
        mask: The patches that may change; None is all.
        first: The step at which it begins: before it, noise hides the picture, and objects would move.

    Returns:
        The edited pictures, between about 0 and 1. Equal captions leave them as they are.

    Raises:
        ShapeError: if there are not as many captions, or masks, as pictures.
        OptionError: for a first step that is none.

    Source:
        Kulikov et al. 2024, arXiv:2412.08629 (FlowEdit), and a mask by attention.
    """
    require_painter(model)
    check_sampling(steps=steps, guidance=guidance)
    if not 0 <= first < steps:
        raise OptionError(f"first is {first}; expected a step from 0 to {steps - 1}", hint="first=0")
    if {len(source), len(target), len(pictures) if mask is None else len(mask)} != {len(pictures)}:
        raise ShapeError(
            f"{len(pictures)} pictures, {len(source)} captions and {len(target)} captions to change to",
            hint="give one caption and one new caption for each picture",
        )
    start = from_pixels(pictures)
    edited = start.clone()
    words = [torch.from_numpy(word_numbers(captions)) for captions in (source, target)]
    gate = 1.0 if mask is None else grown(mask).to(start)
    times = torch.linspace(0, 1, steps + 1)
    for step in range(first, steps):
        t, dt = times[step].expand(len(start)), times[step + 1] - times[step]
        from_source = noisy(start, t=float(times[step]), seed=seed * 1009 + step)
        from_edited = edited + from_source - start
        moved = _velocity(model, from_edited, t, words[1], guidance) - _velocity(
            model, from_source, t, words[0], guidance
        )
        edited = edited + dt * moved * gate
    return to_pixels(edited)


def _velocity(model: TransformerBridge, x: Tensor, t: Tensor, words: Tensor, guidance: float) -> Tensor:
    """The guided velocity."""
    found = predict(model, x, t, words)
    if guidance != 1:
        empty = predict(model, x, t, torch.zeros_like(words))
        found = empty + guidance * (found - empty)
    return velocity(found, x, t)


@torch.no_grad()
def looks_at_slots(
    model: TransformerBridge,
    pictures: Float[Tensor, "row side side 3"],
    captions: Captions,
    *,
    slots: Sequence[int],
    heads: Sequence[tuple[int, int]] | None = None,
    t: float = 0.5,
    seed: int = 0,
) -> Float[Tensor, "row down across"]:
    """Return how much each patch of a picture looks at some words, the picture made noisy once.

    Args:
        heads: Layer and head of those that are averaged; by default all.

    Returns:
        Shares of a patch's attention, mean over heads, summed over slots: 0 to 1.
    """
    seen: list[Tensor] = []
    names = [f"cross.{hook_name('pattern', layer)}" for layer in range(len(model.blocks))]
    clean, words = from_pixels(pictures), torch.from_numpy(word_numbers(captions))
    with model.hooks(fwd_hooks=[(name, lambda pattern, hook: seen.append(pattern)) for name in names]):
        predict(model, noisy(clean, t=t, seed=seed), torch.full((len(clean),), t), words)
    looks = torch.stack(seen, 1)[..., list(slots)].sum(-1)  # (row, layer, head, patch)
    chosen = heads or [(layer, head) for layer in range(looks.shape[1]) for head in range(looks.shape[2])]
    return torch.stack([looks[:, layer, head] for layer, head in chosen]).mean(0).unflatten(-1, (GRID, GRID))


def looks_at_one(
    model: TransformerBridge,
    pictures: Float[Tensor, "row side side 3"],
    captions: Captions,
    *,
    slots: Sequence[int],
    head: tuple[int, int],
) -> Float[Tensor, "row down across"]:
    """Return how much each patch of every picture looks at one word of its caption, in one head.

    Every picture is made noisy by itself, so that it does not matter which others there are.

    Args:
        slots: Of the word, for each picture.
        head: Layer and head.

    Returns:
        Shares of a patch's attention, 0 to 1.

    Example:
        >>> import workbench as wb
        >>> from workbench.tasks.canvas.flat_shapes import draw
        >>> drawing, model = draw(7, 1), wb.open_model("zoo:painter")
        >>> pictures = torch.from_numpy(drawing.pixels)[None]
        >>> looks_at_one(model, pictures, [drawing.items], slots=[1], head=(1, 0)).shape
        torch.Size([1, 8, 8])
    """
    each = zip(pictures.split(1), captions, slots, strict=True)
    return torch.cat(
        [looks_at_slots(model, one, [own], slots=[slot], heads=[head]) for one, own, slot in each]
    )


def read_changes(
    pictures: Float[Tensor, "row side side 3"], target: Captions
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Read off edited pictures whether the first object is what is asked now, and whether the second is there still.

    Args:
        target: What each picture was changed to; two objects.

    Returns:
        1 where it is so, else 0: of the first, of the second.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import changed, draw
        >>> drawing = draw(7, 1)
        >>> read_changes(torch.from_numpy(drawing.pixels)[None], [changed(drawing.items, 0)])
        (array([0.]), array([1.]))
    """
    seen = [{each.item for each in read_picture(picture)} for picture in pictures.numpy()]
    new, kept = ([after[i] in there for there, after in zip(seen, target, strict=True)] for i in (0, 1))
    return np.array(new, dtype=float), np.array(kept, dtype=float)


def strongest(maps: Float[Tensor, "row down across"], patches: int) -> Bool[Tensor, "row down across"]:
    """Return a mask of so many patches, those that each map has most of."""
    flat = maps.flatten(1)
    top = flat.argsort(dim=1, descending=True, stable=True)[:, :patches]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, top, True).view(maps.shape)


def grown(mask: Bool[Tensor, "row down across"]) -> Float[Tensor, "row 1 side side"]:
    """Return a mask of patches as one of pixels."""
    return mask.float().repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)[:, None]
