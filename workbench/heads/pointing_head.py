"""A small head that points: from frozen patches to a map over the grid, and where it clicks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.heads.grid_maps import Size
from workbench.tasks.scenes.paint import owner_map
from workbench.tasks.scenes.truth import box_of

if TYPE_CHECKING:
    from workbench.heads.drawn_pictures import DrawnPictures

Loss = Callable[[Tensor, Tensor], Tensor]
"""From maps ``(item, row, column)`` and the numbers of their items to one value per item."""
HIDDEN, BATCH, RATE = 32, 64, 3e-3


def fit_pointing(
    features: Float[Tensor, "item patch d"], loss: Loss, *, grid: Size, steps: int = 300, seed: int = 0
) -> nn.Module:
    """Train a head with one hidden layer, the same for every patch; the same seed gives the same head.

    Returns:
        The head: from the features of a patch to its score.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(nn.Linear(features.shape[-1], HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1)).to(
            features
        )
    drawn, optimiser = torch.Generator().manual_seed(seed), torch.optim.AdamW(head.parameters(), lr=RATE)
    with torch.enable_grad():
        for _ in range(steps):
            items = torch.randint(0, len(features), (BATCH,), generator=drawn)
            found = loss(point(head, features[items], grid), items).mean()
            optimiser.zero_grad()
            found.backward()
            optimiser.step()
    return head.eval().requires_grad_(False)


def point(
    head: nn.Module, features: Float[Tensor, "item patch d"], grid: Size
) -> Float[Tensor, "item row column"]:
    """Point with a head: maps that sum to 1."""
    return head(features)[..., 0].softmax(-1).unflatten(1, grid)


def clicks(
    maps: Float[Tensor, "item row column"],
    boxes: Float[Tensor, "item 4"],
    inside: Bool[Tensor, "item row column"],
) -> tuple[Float[np.ndarray, " item"], Float[np.ndarray, " item"], Float[np.ndarray, " item"]]:
    """Click on the middle of the patch with most weight.

    Returns:
        Whether it is a patch of the target (1 or 0), how far the click is from the middle of the box in patches, and
        what share of the map lies outside the target.
    """
    best, columns = maps.flatten(1).argmax(-1), maps.shape[2]
    hits = inside.flatten(1).gather(1, best[:, None])[:, 0].double()
    at = torch.stack([best // columns, best % columns], dim=-1) + 0.5
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    outside = (maps * ~inside).sum((-2, -1))
    hit, apart, out = (each.double().cpu().numpy() for each in (hits, (at - middle).norm(dim=-1), outside))
    return hit, apart, out


def boxes_of(shown: DrawnPictures, *, like: Tensor) -> Float[Tensor, "item 4"]:
    """Return top, left, bottom and right of the asked object of each picture, in patches; fractions are kept."""
    owner = owner_map(shown.layout, shown.world)
    sides = np.array([owner.shape[1] / shown.grid[0], owner.shape[2] / shown.grid[1]] * 2)
    boxes = np.array([box_of(one == 0) for one in owner]) / sides
    return torch.as_tensor(boxes).to(like)


def inside_of(shown: DrawnPictures, *, like: Tensor) -> Bool[Tensor, "item row column"]:
    """Return the patches of the asked object of each picture."""
    return torch.as_tensor(shown.own, device=like.device)
