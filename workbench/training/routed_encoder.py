"""Encoding models of groups of targets: a query of each group looks for what the group follows.

Beside it two without routing: a static map over places for each group, and ridge regression on all features. After
the Transformer brain encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.core.errors import OptionError, ShapeError
from workbench.training.side_by_side import begin_alike, step_alike

if TYPE_CHECKING:
    from workbench.training.followed_objects import GroupTargets

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
Features = Float[Tensor, "item place d"]
Targets = Float[Tensor, "item group target"]


class RoutedEncoder(nn.Module):
    """A query of each group looks at places by content and by place; what it finds is mapped to the group's targets.

    ``o_g = softmax(q_g . K (x + p)) x`` and ``y_g = W_g o_g + b_g``.

    Args:
        d: Width of the features.
        places: Of the grid.
        groups, targets: How many groups, and targets of each.

    Source:
        Adeli, Sun and Kriegeskorte 2025, Transformer brain encoders explain human high-level visual responses.
    """

    def __init__(self, d: int, places: int, groups: int, targets: int, *, keys: int = 32) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(places, d))
        self.keys = nn.Linear(d, keys)
        self.query = nn.Parameter(torch.randn(groups, keys) / keys**0.5)
        self.weight = nn.Parameter(torch.randn(groups, d, targets) / d**0.5)
        self.bias = nn.Parameter(torch.zeros(groups, targets))

    def maps(self, features: Features) -> Float[Tensor, "item group place"]:
        """Say where the query of each group looks; each map sums to 1."""
        keys = self.keys(features + self.place)
        return torch.einsum("gk,ipk->igp", self.query, keys).softmax(-1)

    def forward(self, features: Features) -> Targets:
        """Return what each group is expected to do."""
        found = torch.einsum("igp,ipd->igd", self.maps(features), features)
        return torch.einsum("igd,gdt->igt", found, self.weight) + self.bias


class StaticEncoder(nn.Module):
    """The same with a map of each group that is the same for every item: space times feature."""

    def __init__(self, d: int, places: int, groups: int, targets: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(groups, places))
        self.weight = nn.Parameter(torch.randn(groups, d, targets) / d**0.5)
        self.bias = nn.Parameter(torch.zeros(groups, targets))

    def maps(self, features: Features) -> Float[Tensor, "item group place"]:
        """Return the map of each group, the same for every item."""
        return self.scores.softmax(-1).expand(len(features), -1, -1)

    def forward(self, features: Features) -> Targets:
        """Return what each group is expected to do."""
        found = torch.einsum("igp,ipd->igd", self.maps(features), features)
        return torch.einsum("igd,gdt->igt", found, self.weight) + self.bias


def fit_encoders(
    features: Features,
    targets: Targets,
    there: Bool[Tensor, "item group"] | None = None,
    *,
    steps: int = 600,
    seed: int = 0,
) -> dict[str, nn.Module]:
    """Train a routed and a static encoder side by side, on the same items; mean squared error.

    Args:
        there: Which groups have a target in each item; by default all.

    Returns:
        ``routed`` and ``static``, in evaluation mode.

    Raises:
        ShapeError: if features and targets are of different numbers of items.
    """
    if len(features) != len(targets):
        raise ShapeError(
            f"features are of {len(features)} items, targets of {len(targets)}",
            hint="give both for the same items",
        )
    shape = (features.shape[-1], features.shape[1], targets.shape[1], targets.shape[2])
    kept = torch.ones(targets.shape[:2], dtype=torch.bool) if there is None else there
    arms: dict[str, nn.Module] = begin_alike(
        {"routed": lambda: RoutedEncoder(*shape), "static": lambda: StaticEncoder(*shape)}, seed=seed
    )

    def loss(name: str, arm: nn.Module, rows: Tensor) -> Tensor:
        return ((arm(features[rows]) - targets[rows]) ** 2)[kept[rows]].mean()

    step_alike(arms, loss, items=len(features), steps=steps, batch=128, rate=1e-2, seed=seed)
    return arms


def fit_ridge(
    features: Float[Tensor, "item feature"],
    targets: Float[Tensor, "item target"],
    *,
    penalties: Sequence[float] = PENALTIES,
) -> Float[Tensor, "feature_and_one target"]:
    """Fit ridge regression; the penalty is the one that is best on a fifth of the items, and then all are fitted.

    Returns:
        Weights, the last row for a constant.

    Raises:
        OptionError: for fewer than ten items.
    """
    if len(features) < 10:
        raise OptionError(f"{len(features)} items are too few for ridge regression", hint="10 items or more")
    x, y = features.double(), targets.double()
    held = torch.arange(len(x)) % 5 == 0

    def solve(rows: Tensor, penalties: Sequence[float]) -> list[Tensor]:
        """Weights for each penalty, by the products of items: there are fewer items than features."""
        mean, middle = x[rows].mean(0), y[rows].mean(0)
        own, alike = x[rows] - mean, (x[rows] - mean) @ (x[rows] - mean).T
        found = []
        for penalty in penalties:
            factor = torch.linalg.cholesky(alike + penalty * torch.eye(len(own), dtype=own.dtype))
            weights = own.T @ torch.cholesky_solve(y[rows] - middle, factor)
            found.append(torch.cat([weights, (middle - mean @ weights)[None]]))
        return found

    wrong = [float(((_with_one(x[held]) @ each - y[held]) ** 2).sum()) for each in solve(~held, penalties)]
    [best] = solve(torch.ones_like(held), [penalties[int(np.argmin(wrong))]])
    return best.to(targets)


def by_ridge(
    weights: Float[Tensor, "feature_and_one target"], features: Float[Tensor, "item feature"]
) -> Tensor:
    """Return what ridge regression expects, ``(item, target)``."""
    return _with_one(features) @ weights


def explained(
    said: Targets, targets: Targets, there: Bool[Tensor, "item group"] | None = None
) -> Float[np.ndarray, " target_of_group"]:
    """Return the share of the variance of each target that is explained, over the items in which its group is there.

    ``R^2 = 1 - sum (y - said)^2 / sum (y - mean y)^2``: 1 for a perfect encoder, below 0 for one worse than the mean.

    Returns:
        One number for each target, those of the first group first.

    Example:
        >>> y = torch.tensor([[[0.0]], [[2.0]], [[4.0]]])
        >>> explained(y, y).tolist(), explained(torch.full_like(y, 2.0), y).tolist()
        ([1.0], [0.0])
    """
    kept = torch.ones(targets.shape[:2], dtype=torch.bool) if there is None else there
    found = []
    for group in range(targets.shape[1]):
        own, guess = targets[kept[:, group], group].double(), said[kept[:, group], group].double()
        found.append(1 - ((own - guess) ** 2).sum(0) / ((own - own.mean(0)) ** 2).sum(0))
    return torch.cat(found).cpu().numpy()


def compare(train: GroupTargets, test: GroupTargets, *, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Fit all three on some items, and return the variance of each target that each explains on others."""
    arms = fit_encoders(train.features, train.targets, train.there, steps=steps, seed=seed)
    said = {name: arm(test.features) for name, arm in arms.items()}
    flat, ridge = train.features.flatten(1), torch.zeros_like(test.targets)
    for groups in _alike(train.there):
        rows = train.there[:, groups[0]]
        weights = fit_ridge(flat[rows], train.targets[rows][:, groups].flatten(1))
        said_by_ridge = by_ridge(weights, test.features.flatten(1))
        ridge[:, groups] = said_by_ridge.unflatten(1, (len(groups), -1))
    found = {
        name: explained(each, test.targets, test.there) for name, each in (said | {"ridge": ridge}).items()
    }
    routed = cast(RoutedEncoder, arms["routed"])
    return found | {"maps": routed.maps(test.features).cpu().numpy()}


def _alike(there: Bool[Tensor, "item group"]) -> list[list[int]]:
    """Groups that are there in the same items, together: one regression serves them all."""
    found: dict[bytes, list[int]] = {}
    for group in range(there.shape[1]):
        found.setdefault(there[:, group].numpy().tobytes(), []).append(group)
    return list(found.values())


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], 1)
