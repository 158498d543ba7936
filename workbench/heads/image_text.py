"""Patches and phrases in the space that a CLIP has for both: cosine similarities by patch.

A CLIP is trained to match whole pictures; what its patches say in that space is a by-product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from workbench.core.errors import ModelError, TaskError
from workbench.heads.grid_maps import Size


def require_clip(model: Any) -> Any:
    """Return the model of transformers, which has a tower for pictures, one for words, and a projection of each.

    Raises:
        ModelError: if it is no such model.
    """
    original = getattr(model, "original_model", None)
    parts = ("vision_model", "text_model", "visual_projection", "text_projection")
    if not all(hasattr(original, part) for part in parts) or getattr(model, "tokenizer", None) is None:
        raise ModelError("a model of pictures and captions in one space is expected", hint="-m zoo:clip")
    return original


def grid_of(model: Any) -> Size:
    """Return rows and columns of the patches of a CLIP."""
    config = require_clip(model).config.vision_config
    side = config.image_size // config.patch_size
    return side, side


@torch.no_grad()
def phrase_vectors(model: Any, phrases: Sequence[str]) -> Float[Tensor, "phrase d"]:
    """Read phrases of one length.

    Returns:
        Directions of length 1.

    Raises:
        TaskError: for phrases of several lengths: nothing is padded.
    """
    original = require_clip(model)
    ids = model.tokenizer(list(phrases))["input_ids"]
    if len({len(one) for one in ids}) != 1:
        raise TaskError(
            f"phrases have {sorted({len(one) for one in ids})} tokens; one length is expected",
            hint="ask phrases of one length together",
        )
    read = original.text_model(torch.tensor(ids, device=original.device)).pooler_output
    return normalize(original.text_projection(read), dim=-1)


@torch.no_grad()
def patch_vectors(
    model: Any, pixels: UInt8[np.ndarray, "picture height width 3"], *, rows: int = 128
) -> Float[Tensor, "picture patch d"]:
    """See pictures, and read every patch of the last layer as the class token is read: norm, projection.

    Colours become numbers from -1 to 1, as the built-in models read them.

    Returns:
        Directions of length 1; the class token is left out.
    """
    original, found = require_clip(model), []
    for seen in _seen(original, pixels, rows):
        held = original.vision_model.post_layernorm(seen.last_hidden_state[:, 1:])
        found.append(normalize(original.visual_projection(held), dim=-1))
    return torch.cat(found)


@torch.no_grad()
def picture_vectors(
    model: Any, pixels: UInt8[np.ndarray, "picture height width 3"], *, rows: int = 256
) -> Float[Tensor, "picture d"]:
    """See pictures, and read each as a whole.

    Args:
        rows: Pictures in one pass.

    Returns:
        Directions of length 1.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.

    Example:
        >>> import workbench as wb
        >>> pixels = np.zeros((2, 48, 48, 3), dtype=np.uint8)
        >>> [round(length, 3) for length in picture_vectors(wb.open_model("zoo:clip"), pixels).norm(dim=-1).tolist()]
        [1.0, 1.0]
    """
    original = require_clip(model)
    found = [original.visual_projection(seen.pooler_output) for seen in _seen(original, pixels, rows)]
    return normalize(torch.cat(found), dim=-1)


def _seen(original: Any, pixels: UInt8[np.ndarray, "picture height width 3"], rows: int) -> Iterator[Any]:
    """What the tower puts out for so many pictures at a time; colours from -1 to 1."""
    for start in range(0, len(pixels), rows):
        part = torch.from_numpy(pixels[start : start + rows].transpose(0, 3, 1, 2).astype(np.float32))
        yield original.vision_model(pixel_values=(part / 127.5 - 1).to(original.device, original.dtype))


def similarity_maps(
    patches: Float[Tensor, "picture patch d"], phrases: Float[Tensor, "picture d"], grid: Size
) -> Float[np.ndarray, "picture row column"]:
    """Return the cosine similarity of every patch with the phrase of its picture, from -1 to 1."""
    alike = torch.einsum("ipd,id->ip", patches, phrases).double().cpu().numpy()
    return alike.reshape(len(alike), *grid)


def softened(
    maps: Float[np.ndarray, "picture row column"], scale: float
) -> Float[np.ndarray, "picture row column"]:
    """Return similarities as shares: softmax over the patches of a picture.

    Args:
        scale: What similarities are multiplied with first, such as the model's own temperature.
    """
    raised = np.exp(scale * (maps - maps.max((-2, -1), keepdims=True)))
    return raised / raised.sum((-2, -1), keepdims=True)
