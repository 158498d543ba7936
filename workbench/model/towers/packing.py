"""Towers that put the patches of all pictures into one row, or each crop of a picture into a row of its own.

Hook points show one row for each prompt all the same, with its patches one after another; so do patterns, in which
patches that cannot see each other (of other crops or windows) have weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from workbench.core.errors import ModelError


class Packing:
    """How many prompts a pass has, and which patches of each see each other.

    Attributes:
        rows: Prompts of the pass; 0 outside of one.
        blocks: Of each patch of each row a number; those with the same one see each other. None where attention is told
            otherwise.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.blocks: Int[Tensor, "row patch"] | None = None

    def begin(self, inputs: Mapping[str, Tensor]) -> None:
        """Note how many prompts a pass has.

        Raises:
            ModelError: if their pictures are not of one size.
        """
        for name in ("image_grid_thw", "image_sizes"):
            sizes = inputs.get(name)
            if sizes is not None and bool((sizes != sizes[:1]).any()):
                raise ModelError(
                    f"{name} has several sizes: {sizes.unique(dim=0).tolist()}; the pictures of one pass have one size",
                    hint="run prompts with pictures of other sizes apart",
                )
        pixels = inputs.get("pixel_values")
        self.rows = 0 if pixels is None else len(pixels)

    def unpacked(self, tensor: Tensor, tail: int) -> Tensor:
        """Return a tensor as ``(row, pos, ...)``, with so many axes behind."""
        return tensor.reshape(self.rows, -1, *tensor.shape[-tail:])

    def heads(
        self, tensor: Float[Tensor, "packed head patch d_head"]
    ) -> Float[Tensor, "row head pos d_head"]:
        """Return queries, keys or values with one row for each prompt."""
        return self.unpacked(tensor.transpose(1, 2), 2).transpose(1, 2)

    def mask(self, shape: torch.Size, mask: Float[Tensor, "..."] | None) -> Float[Tensor, "row 1 query key"]:
        """Say which patches of a prompt see each other: 0 where they do, the least number elsewhere.

        Args:
            shape: Of queries as attention got them, ``(packed, head, patch, d_head)``.
            mask: As attention got it, over a row of all patches.
        """
        packed, _, n, _ = shape
        pos = packed * n // self.rows
        if mask is not None:  # one row of all pictures: the squares on its diagonal
            squares = mask[0, 0].reshape(self.rows, pos, self.rows, pos)
            return squares.diagonal(dim1=0, dim2=2).permute(2, 0, 1)[:, None]
        blocks = self.blocks
        if blocks is None:
            blocks = torch.arange(packed * n).reshape(self.rows, pos) // n
        sees = blocks[:, None, :, None] == blocks[:, None, None, :]
        return torch.zeros(sees.shape, device=blocks.device).masked_fill(
            ~sees, torch.finfo(torch.float32).min
        )

    def at_once(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of an attention that is called with bounds of runs of patches, for one run of all: who
        sees whom is said by ``blocks``.
        """
        bounds = kwargs.get("cu_seqlens")
        self.blocks = None
        if bounds is None or not self.rows:
            return dict(kwargs)
        total = int(bounds[-1])
        places = torch.arange(total, device=bounds.device)
        self.blocks = torch.bucketize(places, bounds[1:].contiguous(), right=True).reshape(self.rows, -1)
        return {**kwargs, "cu_seqlens": bounds.new_tensor([0, total])}


class PackedPoint(HookPoint):
    """A hook point that shows ``(row, pos, ...)`` where the model has another shape.

    Args:
        tail: Axes behind the positions: 1 of a residual stream, 2 of heads.
    """

    def __init__(self, packing: Packing, tail: int) -> None:
        super().__init__()
        self.packing, self.tail = packing, tail

    def __call__(self, tensor: Tensor) -> Tensor:
        """Show what passes, and pass on what hooks return."""
        if not self.packing.rows:
            return super().__call__(tensor)
        return super().__call__(self.packing.unpacked(tensor, self.tail)).reshape(tensor.shape)


def point(packing: Packing | None, tail: int = 1) -> HookPoint:
    """Return a hook point; one that unpacks where a tower packs."""
    return HookPoint() if packing is None else PackedPoint(packing, tail)
