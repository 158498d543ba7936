"""Drawn pictures in which an arrow looks at an object, with patterns of a frozen tower; its class token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.heads.attentive_probe import patch_features
from workbench.heads.drawn_pictures import DrawnPictures, draw_pictures
from workbench.heads.grid_maps import Size
from workbench.heads.span_to_all import span_to_all
from workbench.heads.tower_patterns import tower_patterns
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.looking_arrow import point_at_first
from workbench.tasks.scenes.words import GRID

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True, eq=False)
class FigureScenes:
    """Pictures with an arrow each, for a model that reads pictures alone.

    Attributes:
        figure: Positions of the patches of the arrow's cell, the class token counted.
    """

    model: TransformerBridge
    shown: DrawnPictures
    figure: Int[Tensor, "picture place"]

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return self.shown.grid

    @property
    def own(self) -> Bool[np.ndarray, "picture row column"]:
        """The patches of the object that the arrow looks at."""
        return self.shown.own

    @cached_property
    def patterns(self) -> Float[Tensor, "picture layer head query key"]:
        """Where every position of the tower looks."""
        return tower_patterns(self.model, list(self.shown.pixels))

    def hidden(self, layer: int) -> Float[Tensor, "picture patch d_model"]:
        """Return what the patches hold after a layer."""
        return patch_features(self.model, self.shown, layer)


def draw_figures(model: TransformerBridge, world: World, *, n: int, seed: int) -> FigureScenes:
    """Draw pictures in which an arrow looks at the nearest object in front of it; a few have no place for one.

    Raises:
        ModelError: if the model reads no pictures, or its patches do not divide the cells of a scene.
    """
    shown = draw_pictures(model, world, n=n, seed=seed, change=lambda laid: point_at_first(laid, seed=seed))
    rows, columns = shown.grid
    if rows % GRID or columns % GRID:
        raise ModelError(
            f"{rows} by {columns} patches do not divide {GRID} by {GRID} cells",
            hint="-m zoo:marked, whose cells are two by two patches",
        )
    cells = torch.arange(rows * columns).reshape(GRID, rows // GRID, GRID, columns // GRID).transpose(1, 2)
    figure = cells.reshape(GRID * GRID, -1)[torch.as_tensor(shown.layout.arrow.astype(int) // 4)]
    return FigureScenes(model=model, shown=shown, figure=figure + shown.sight.first)


def class_looks(model: TransformerBridge, shown: DrawnPictures) -> Float[Tensor, "picture patch feature"]:
    """Return what the class token gives to every patch, one feature for each head."""
    patterns = tower_patterns(model, list(shown.pixels))
    return span_to_all(patterns, torch.zeros(len(shown), 1, dtype=torch.long), first=shown.sight.first)
