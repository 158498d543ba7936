"""How well a map points at a box: what lies outside it, how far it is from a Gaussian of its size; as losses too."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError

Maps = Float[Tensor, "item row column"]
SPREAD = 0.25  # of the box's side: the Gaussian's standard deviation


def outside_mass(maps: Maps, inside: Bool[Tensor, "item row column"]) -> Float[Tensor, " item"]:
    """Return the share of each map outside its target, 0 to 1; maps sum to 1.

    Example:
        >>> float(outside_mass(torch.tensor([[[0.25, 0.75]]]), torch.tensor([[[True, False]]])))
        0.75
    """
    return (maps * ~inside).sum((-2, -1))


def gaussian_targets(
    boxes: Float[Tensor, "item 4"], grid: tuple[int, int], *, spread: float = SPREAD
) -> Float[Tensor, "item row column"]:
    """Put a Gaussian on the middle of each box, as wide and high as the box asks.

    Args:
        boxes: Top, left, bottom and right in patches; fractions are allowed.
        spread: Standard deviation as a share of the box's height and width.

    Returns:
        Maps that sum to 1.

    Raises:
        OptionError: for a spread that is not above 0.
    """
    if not spread > 0:
        raise OptionError(f"spread is {spread}; a number above 0 is expected", hint="spread=0.5")
    top, left, bottom, right = boxes[:, :, None].unbind(1)  # (item, 1) each
    rows, columns = (torch.arange(n, dtype=boxes.dtype, device=boxes.device) + 0.5 for n in grid)
    down = ((rows - (top + bottom) / 2) / ((bottom - top) * spread)) ** 2
    across = ((columns - (left + right) / 2) / ((right - left) * spread)) ** 2
    return (-(down[:, :, None] + across[:, None, :]) / 2).flatten(1).softmax(-1).unflatten(1, grid)


def gaussian_localisation(maps: Maps, targets: Float[Tensor, "item row column"]) -> Float[Tensor, " item"]:
    """Return the divergence of each map from its target, in nats: KL(target, map), 0 only for the target itself.

    Source:
        V2P, 2025 (center peaking); the abstract alone was read.
    """
    logs = maps.clamp(min=1e-12).log()
    return torch.special.entr(targets).sum((-2, -1)).neg() - (targets * logs).sum((-2, -1))


def box_labels(inside: Bool[Tensor, "item row column"]) -> Float[Tensor, "item row column"]:
    """Give every patch of a target the same weight: the label of pointing without a peak."""
    return inside / inside.sum((-2, -1), keepdim=True)


def middle_of(maps: Maps) -> Float[Tensor, "item 2"]:
    """Return where each map points on average: row and column, in patches from the top left corner."""
    rows, columns = (torch.arange(n, dtype=maps.dtype, device=maps.device) + 0.5 for n in maps.shape[1:])
    total = maps.sum((-2, -1))
    return torch.stack([(maps.sum(2) @ rows) / total, (maps.sum(1) @ columns) / total], dim=-1)
