"""Part of a picture as one direction: by itself, in its context, or mixed; and a prior for words of place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from workbench.core.errors import OptionError, ShapeError
from workbench.heads.image_text import phrase_vectors, require_clip

DIRECTIONS: Mapping[str, tuple[int, int]] = {
    "left of": (0, -1),
    "right of": (0, 1),
    "above": (-1, 0),
    "below": (1, 0),
}
"""Words of place and the way they point: rows down, columns right."""


@torch.no_grad()
def alone_vectors(
    model: Any,
    pixels: UInt8[np.ndarray, "span height width 3"],
    masks: Bool[np.ndarray, "span height width"],
    *,
    rows: int = 128,
) -> Float[Tensor, "span d"]:
    """See each span by itself: outside its mask a picture has its own mean colour.

    Returns:
        Directions of length 1, of the class token.
    """
    if pixels.shape[:3] != masks.shape:
        raise ShapeError(
            f"masks are {masks.shape}, pictures {pixels.shape[:3]}",
            hint="give one mask for each picture, of its height and width",
        )
    original, found = require_clip(model), []
    ground = pixels.mean((1, 2), keepdims=True)
    shown = np.where(masks[..., None], pixels, ground).astype(np.float32)
    for start in range(0, len(shown), rows):
        part = torch.from_numpy(shown[start : start + rows].transpose(0, 3, 1, 2)) / 127.5 - 1
        seen = original.vision_model(pixel_values=part.to(original.device, original.dtype)).pooler_output
        found.append(normalize(original.visual_projection(seen), dim=-1))
    return torch.cat(found)


def in_context_vectors(
    patches: Float[Tensor, "span patch d"], inside: Bool[np.ndarray, "span row column"]
) -> Float[Tensor, "span d"]:
    """Average the patches of each span in a picture that was seen whole.

    Raises:
        ShapeError: for a span without patches.
    """
    flat = torch.as_tensor(inside.reshape(len(inside), -1), device=patches.device)
    if not bool(flat.any(1).all()):
        raise ShapeError(
            "a span has no patch; expected at least one patch inside each",
            hint="leave out objects that cover no patch, or draw them larger",
        )
    return normalize((patches * flat[..., None]).sum(1) / flat.sum(1, keepdim=True), dim=-1)


def mixed(
    alone: Float[Tensor, "span d"], in_context: Float[Tensor, "span d"], *, share: float
) -> Float[Tensor, "span d"]:
    """Mix both directions; a share of 0 is the span alone, of 1 the span in its context.

    Raises:
        OptionError: for a share outside 0 to 1.

    Source:
        HybridGL, 2025 (hybrid global-local representation); the abstract alone was read.

    Example:
        >>> (mixed(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), share=0.5) ** 2).round(decimals=3).tolist()
        [[0.5, 0.5]]
    """
    if not 0 <= share <= 1:
        raise OptionError(f"share is {share}; a number from 0 to 1 is expected", hint="share=0.5")
    return normalize((1 - share) * alone + share * in_context, dim=-1)


def phrase_directions(model: Any, phrases: Sequence[str]) -> Float[Tensor, "phrase d"]:
    """Read phrases of any lengths, those of one length together: nothing is padded.

    Returns:
        Directions of length 1, in the order of the phrases.
    """
    lengths = [len(ids) for ids in model.tokenizer(list(phrases))["input_ids"]]
    found: dict[int, Tensor] = {}
    for length in set(lengths):
        own = [i for i, n in enumerate(lengths) if n == length]
        found |= dict(zip(own, phrase_vectors(model, [phrases[i] for i in own]), strict=True))
    return torch.stack([found[i] for i in range(len(phrases))])


def spatial_prior(
    middles: Float[np.ndarray, "span 2"], landmark: Float[np.ndarray, "span 2"], words: list[str]
) -> Float[np.ndarray, " span"]:
    """Say how far each span lies on the side of a landmark that a word of place names.

    Args:
        middles, landmark: Row and column of the middles, in any unit.
        words: Of `DIRECTIONS`, one per span.

    Returns:
        Distances along the word's way, in that unit; below 0 on the other side.

    Example:
        >>> spatial_prior(np.array([[0.0, 1.0]]), np.array([[0.0, 3.0]]), ["left of"]).tolist()
        [2.0]
    """
    ways = np.array([DIRECTIONS[word] for word in words], dtype=float)
    return ((middles - landmark) * ways).sum(-1)
