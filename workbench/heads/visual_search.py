"""Visual search: how many places are looked at until a target is found, and whether A among B is as quick as B among A.

Places are looked at in the order of how alike they are to the target. Whoever finds A among B quicker than B among A
searches asymmetrically; if both are alike for a model, the asymmetry is 0.

Source:
    Gupta et al. 2021, Visual Search Asymmetry: Deep Nets and Humans Share Similar Inherent Biases (a summary was read).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from workbench.core.errors import ModelError, ShapeError
from workbench.heads.attentive_probe import patch_features
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.grid_maps import Size
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.words import GRID, N_CELLS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def search_steps(
    alike: Float[np.ndarray, "display place"], target: Int[np.ndarray, " display"]
) -> Float[np.ndarray, " display"]:
    """Return how many places are looked at until the target is found, 1 at best; a tie counts half.

    Args:
        alike: How alike each place is to what is searched for; NaN where nothing stands.
        target: The place of the target.

    Raises:
        ShapeError: if a target is not there.

    Example:
        >>> search_steps(np.array([[0.2, 0.9, 0.5], [0.3, 0.3, np.nan]]), np.array([2, 0])).tolist()
        [2.0, 1.5]
    """
    own = np.take_along_axis(alike, target[:, None], 1)
    if np.isnan(own).any():
        raise ShapeError(
            "a target is not among the places", hint="give every target a likeness that is a number"
        )
    return 1 + (alike > own).sum(1) + ((alike == own).sum(1) - 1) / 2


def likeness(
    features: Float[Tensor, "display place d"], template: Float[Tensor, " d"]
) -> Float[np.ndarray, "display place"]:
    """Return the cosine of what every place holds with what is searched for."""
    return (normalize(features, dim=-1) @ normalize(template, dim=-1)).double().cpu().numpy()


@dataclass(frozen=True, eq=False)
class Displays:
    """Displays of objects, one in every cell, as a model's patches.

    Attributes:
        cells: What the patches of each cell hold, one after the other.
        shape: Of the object in each cell.
        target: The cell of the first object.
    """

    cells: Float[Tensor, "display place d"]
    shape: Int[np.ndarray, "display place"]
    target: Int[np.ndarray, " display"]


def scaled(displays: Displays, like: Displays) -> Displays:
    """Return displays with the mean and spread that others have turned to 0 and 1, number by number."""
    mean, spread = like.cells.mean((0, 1)), like.cells.std((0, 1)).clamp(min=1e-6)
    return replace(displays, cells=(displays.cells - mean) / spread)


def shape_template(displays: Displays, shape: int) -> Float[Tensor, " d"]:
    """Return the mean of what cells with a shape hold: what is searched for.

    Raises:
        ShapeError: if the shape stands in none of the cells.
    """
    there = displays.shape == shape
    if not there.any():
        raise ShapeError("no cell holds the shape that is searched for", hint="full_displays(model, n=100)")
    return displays.cells[torch.as_tensor(there)].mean(0)


def steps_to_shape(known: Displays, shown: Displays, shape: int) -> Float[np.ndarray, " display"]:
    """Return how many places of each display are looked at until the target is found, by its likeness to a shape.

    Args:
        known: Displays whose cells with the shape are the template; of the same features as those shown.
        shown: Displays whose targets are of that shape.

    Returns:
        Steps, 1 at best.

    Source:
        Gupta et al. 2021 (a summary was read).

    Example:
        >>> import torch
        >>> shape = np.array([[1, 0, 0], [0, 1, 0]])
        >>> shown = Displays(torch.eye(2)[torch.as_tensor(shape)], shape, np.array([0, 1]))
        >>> steps_to_shape(shown, shown, 1).tolist()
        [1.0, 1.0]
    """
    return search_steps(likeness(shown.cells, shape_template(known, shape)), shown.target)


def shape_asymmetry(
    model: TransformerBridge,
    known: Displays,
    pair: tuple[int, int],
    *,
    n: int,
    seed: int,
    layer: int,
    noise: float,
) -> Float[np.ndarray, " display"]:
    """Return how many steps more a model's patches need for one shape in a field of another than the other way round.

    Args:
        known: Displays that give the template of each shape, and mean and spread of what is compared.
        pair: Numbers of the two shapes.
        n, seed: Of the displays, which have the same places, colors and sizes both ways.
        layer: After which patches are read.
        noise: Of pixels.

    Returns:
        Steps; above 0 where the first is found later among the second.

    Source:
        Gupta et al. 2021 (a summary was read).

    Example:
        >>> import workbench as wb
        >>> model, how = wb.open_model("zoo:marked"), {"n": 8, "layer": 1, "noise": 0.25}
        >>> known = full_displays(model, seed=0, **how)
        >>> one, other = (shape_asymmetry(model, known, pair, seed=1, **how) for pair in ((0, 1), (1, 0)))
        >>> bool((one == -other).all())
        True
    """
    like = scaled(known, known)

    def steps(odd: tuple[int, int]) -> Float[np.ndarray, " display"]:
        shown = full_displays(model, n=n, seed=seed, layer=layer, noise=noise, odd=odd)
        return steps_to_shape(like, scaled(shown, known), odd[0])

    return steps(pair) - steps(pair[::-1])


def full_displays(
    model: TransformerBridge,
    *,
    n: int,
    seed: int,
    layer: int,
    noise: float,
    odd: tuple[int, int] | None = None,
) -> Displays:
    """Draw displays in which an object stands in every cell, colors and sizes at random.

    Args:
        layer: After which patches are read.
        odd: The shape of the first object and that of all others; by default all are drawn. The same seed
            gives the same places, colors, sizes and noise whatever the shapes.

    Raises:
        ModelError: for a model that reads no pictures, or whose patches do not divide the cells of a scene.
    """

    def shaped(layout: SceneLayout) -> tuple[SceneLayout, Bool[np.ndarray, " picture"]]:
        if odd is not None:
            layout.shape[:, 0], layout.shape[:, 1:] = odd
        return layout, np.ones(len(layout), dtype=bool)

    world = World(objects=(0,) * (N_CELLS - 1) + (1,), rings=0.0, noise=noise)
    shown = draw_pictures(model, world, n=n, seed=seed, change=shaped)
    features = patch_features(model, shown, layer)[:, torch.as_tensor(cell_patches(shown.grid))]
    shape = np.empty_like(shown.layout.shape, dtype=int)
    np.put_along_axis(shape, shown.layout.cell.astype(int), shown.layout.shape, 1)  # by cell, not by slot
    return Displays(features.flatten(2), shape, shown.layout.cell[:, 0].astype(int))


def cell_patches(grid: Size) -> Int[np.ndarray, "place patch"]:
    """Return the numbers of the patches of every cell of a drawn scene.

    Raises:
        ModelError: if the patches do not divide the cells.

    Example:
        >>> cell_patches((6, 6))[:2].tolist()
        [[0, 1, 6, 7], [2, 3, 8, 9]]
    """
    rows, columns = grid
    if rows % GRID or columns % GRID:
        raise ModelError(
            f"{rows} by {columns} patches do not divide {GRID} by {GRID} cells",
            hint="-m zoo:marked, whose cells are two by two patches",
        )
    cells = np.arange(rows * columns).reshape(GRID, rows // GRID, GRID, columns // GRID)
    return cells.swapaxes(1, 2).reshape(N_CELLS, -1)
