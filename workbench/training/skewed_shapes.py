"""Small readers of shapes that are trained in worlds where one shape is common and another rare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.core.errors import OptionError
from workbench.heads.visual_search import Displays, steps_to_shape
from workbench.tasks.scenes.words import SHAPES
from workbench.training.side_by_side import begin_alike, step_alike

WIDTH = 16


class Skew(NamedTuple):
    """A world in which one shape is common and another rare; all others are as frequent as in an even one."""

    common: int
    rare: int
    share: float = 0.04

    def chances(self) -> Float[np.ndarray, " shape"]:
        """Return the chance of every shape.

        Example:
            >>> Skew(0, 1).chances().round(2).tolist()
            [0.36, 0.04, 0.2, 0.2, 0.2]
        """
        even = 1 / len(SHAPES)
        if self.common == self.rare or not 0 < self.share <= even:
            raise OptionError(
                f"a world of {self} is not skewed; two shapes and a share up to {even:g} are expected",
                hint="Skew(common=0, rare=1, share=0.04)",
            )
        chances = np.full(len(SHAPES), even)
        chances[self.common], chances[self.rare] = 2 * even - self.share, self.share
        return chances


class ShapeReader(nn.Module):
    """Names the shape in a cell; what it holds before the names is what search compares."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hold = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, WIDTH), nn.Tanh())
        self.name = nn.Linear(WIDTH, len(SHAPES))

    def forward(self, cells: Float[Tensor, "*place d"]) -> Float[Tensor, "*place shape"]:
        """Return scores of the shapes."""
        return self.name(self.hold(cells))


def train_skewed(
    seen: Displays, worlds: Mapping[str, Skew], *, steps: int, seed: int, rate: float = 3e-3
) -> dict[str, ShapeReader]:
    """Train a reader in each world, side by side from the same start; each draws its cells by its own chances."""
    cells, shape = seen.cells.flatten(0, 1), torch.as_tensor(seen.shape.flatten(), device=seen.cells.device)
    tables = {name: _by_chance(seen.shape.flatten(), world, seed) for name, world in worlds.items()}
    arms = begin_alike({name: lambda: ShapeReader(cells.shape[-1]) for name in worlds}, seed=seed)

    def loss(name: str, arm: ShapeReader, rows: Int[Tensor, " row"]) -> Tensor:
        drawn = torch.as_tensor(tables[name])[rows]
        return cross_entropy(arm(cells[drawn]), shape[drawn])

    step_alike(arms, loss, items=len(cells), steps=steps, rate=rate, seed=seed)
    return arms


def _by_chance(shape: Int[np.ndarray, " cell"], world: Skew, seed: int) -> Int[np.ndarray, " cell"]:
    """As many cells as there are, drawn by the chances of a world."""
    chances = (world.chances() / np.bincount(shape, minlength=len(SHAPES)).clip(min=1))[shape]
    return np.random.default_rng([46, seed]).choice(len(shape), len(shape), p=chances / chances.sum())


@torch.no_grad()
def held_by(arm: ShapeReader, displays: Displays) -> Displays:
    """Return displays as a reader holds them, before it names shapes."""
    return replace(displays, cells=arm.hold(displays.cells))


@torch.no_grad()
def named_right(arm: ShapeReader, displays: Displays) -> Float[np.ndarray, " display"]:
    """Return the share of the objects of each display whose shape a reader names."""
    return (arm(displays.cells).argmax(-1).cpu().numpy() == displays.shape).mean(-1)


class PairSearch(NamedTuple):
    """A search for one shape in a field of another and the other way round, one value for each pair of displays.

    Attributes:
        asymmetry: Steps to the first shape, less steps to the second.
        steps: Their mean.
        named: Share of the objects whose shape is named.
    """

    asymmetry: Float[np.ndarray, " display"]
    steps: Float[np.ndarray, " display"]
    named: Float[np.ndarray, " display"]


def search_pair(arm: ShapeReader, seen: Displays, both: Mapping[int, Displays]) -> PairSearch:
    """Search the displays of two shapes as a reader holds them.

    Args:
        seen: Displays that give the template of each shape.
        both: By the number of the odd shape, displays with one of it in a field of the other.

    Source:
        Gupta et al. 2021, Visual Search Asymmetry (a summary was read).

    Example:
        >>> shape = np.array([[1, 0, 0], [0, 1, 1]])
        >>> shown = Displays(torch.eye(2)[torch.as_tensor(shape)], shape, np.array([0, 0]))
        >>> search_pair(ShapeReader(2), shown, {1: shown, 0: shown}).asymmetry.shape
        (2,)
    """
    known = held_by(arm, seen)
    first, second = (steps_to_shape(known, held_by(arm, shown), shape) for shape, shown in both.items())
    named = np.mean([named_right(arm, shown) for shown in both.values()], axis=0)
    return PairSearch(asymmetry=first - second, steps=(first + second) / 2, named=named)
