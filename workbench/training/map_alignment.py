"""Draw the attention map of a word to a mask: the loss behind concept guidance and target tokens."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import ShapeError


def map_alignment(
    looks: Float[Tensor, "*row patch"], mask: Bool[Tensor, "*row patch"]
) -> Float[Tensor, "*row"]:
    """Measure how far a word's map is from a mask: ``|looks / sum - mask / sum|^2 / |mask / sum|^2``.

    Args:
        looks: How much each patch looks at the word.
        mask: The patches that should, and no others.

    Returns:
        One value a map: 0 when all looks come evenly from the mask, 2 when they come evenly from as many other patches.

    Raises:
        ShapeError: if they are of different patches, or a mask is empty.

    Source:
        Target-Aware Video Diffusion Models 2025 and AttenCraft 2024, as summaries say it; the scale is ours.

    Example:
        >>> import torch
        >>> mask = torch.tensor([True, True, False, False])
        >>> map_alignment(torch.tensor([0.3, 0.3, 0.0, 0.0]), mask), map_alignment(1.0 - 1.0 * mask, mask)
        (tensor(0.), tensor(2.))
    """
    if looks.shape != mask.shape:
        raise ShapeError(
            f"looks of {tuple(looks.shape)}, masks of {tuple(mask.shape)}; both are of the same patches",
            hint="give one mask for each map: mask.expand_as(looks)",
        )
    size = mask.sum(-1)
    if not bool(size.all()):
        raise ShapeError("a mask has no patch", hint="leave its map out")
    wanted = mask / size[..., None]
    return (looks / looks.sum(-1, keepdim=True) - wanted).square().sum(-1) * size
