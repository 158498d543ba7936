"""Plugs for readers of pictures: a mask of routed regions, and a depth-wise convolution beside attention."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError, ShapeError
from workbench.masks.chosen_keys import of_regions, regions_of_grid, routed_regions
from workbench.training.mixers.plugs import Content, Values, Width


@torch.no_grad()
def routed_by_content(
    scores: Any, visible: Bool[Tensor, "query key"], content: Content, *, side: int, keep: int
) -> Bool[Tensor, "batch head query key"]:
    """Return the mask of the ``keep`` regions that each region is routed to, the same for all heads.

    Mean queries and keys are of all heads together, as in BiFormer; the choice has no gradient.
    """
    region = regions_of_grid(len(visible), side).to(visible.device)
    kept = kept_regions(content, region, keep)
    return of_regions(kept, region) & visible


def kept_regions(content: Content, region: Any, keep: int) -> Bool[Tensor, "batch 1 region region"]:
    """Return which regions each region is routed to, all heads together."""
    q, k = (part.flatten(2)[:, None] for part in (content.q, content.k))
    return routed_regions(q, k, region, keep)


class DepthwiseConvolution(nn.Module):
    """A convolution of the values, each channel by itself, that is added to what attention reads.

    Source:
        Zhu et al. 2023 (local enhancement); Vaswani et al. 2021 for hybrids with convolution.
    """

    def __init__(self, width: Width, *, kernel: int) -> None:
        super().__init__()
        if kernel < 1 or not kernel % 2:
            raise OptionError(f"a kernel of {kernel}; an odd number is needed", hint="kernel=3")
        self.kernel = kernel
        self.weight = nn.Parameter(torch.zeros(width.n_heads * width.d_head, kernel * kernel))

    def forward(self, content: Content) -> Values:
        """Return the convolution at every patch of a square picture.

        Raises:
            ShapeError: for a number of patches that is no square.
        """
        v = content.v
        side = round(v.shape[1] ** 0.5)
        if side * side != v.shape[1]:
            raise ShapeError(f"{v.shape[1]} patches are no square", hint="a picture as high as wide")
        return self.of_grid(v.flatten(2).transpose(1, 2).unflatten(-1, (side, side))).unflatten(
            -1, v.shape[2:]
        )

    def of_grid(self, grid: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch pos channel"]:
        """Return the convolution of channels on a grid, row by row."""
        kernels = self.weight.unflatten(-1, (1, self.kernel, self.kernel))
        found = F.conv2d(grid, kernels, padding=self.kernel // 2, groups=grid.shape[1])
        return found.flatten(2).transpose(1, 2)
