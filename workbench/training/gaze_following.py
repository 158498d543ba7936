"""Following a gaze from coarse to fine: who looks, what lies in view, where the gaze ends, which pixels are looked at.

A reader over frozen patches is prompted by the patches of the figure that looks. It says for every patch whether it
lies in the figure's field of view, then how likely the gaze ends there, then which of its pixels belong to what is
looked at. Each stage reads the one before.

Source:
    Towards Pixel-Level Prediction for Gaze Following: Benchmark and Approach, 2024 (a summary was read).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.heads.attentive_probe import patch_features, standardised
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.localisation import mass_inside, points_inside
from workbench.heads.region_overlap import dice, map_areas
from workbench.heads.visual_search import cell_patches
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.looking_arrow import in_view, point_at_first
from workbench.tasks.scenes.paint import owner_map
from workbench.tasks.scenes.words import GRID

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HIDDEN = 32
OF_PIXELS = 32  # the loss of this many pixels counts as much as that of the heat map


class Gaze(NamedTuple):
    """What a reader says: of patches in view (logits), where the gaze ends (log-shares), of pixels (logits)."""

    view: Float[Tensor, "picture patch"]
    heat: Float[Tensor, "picture patch"]
    mask: Float[Tensor, "picture patch pixel"]


class GazeReader(nn.Module):
    """From frozen patches and the patches of a looking figure to its field of view, a heat map and a mask.

    Args:
        width: Of the features of a patch.
        prompted: Patches of the figure.
        grid: Rows and columns of patches.
        pixels: Of a patch.
        blind: The field of view is not handed on to the heat map.

    Example:
        >>> reader = GazeReader(8, 4, grid=(6, 6), pixels=64)
        >>> said = reader(torch.zeros(2, 36, 8), torch.tensor([[0, 1, 6, 7]] * 2))
        >>> said.heat.shape, said.mask.shape
        (torch.Size([2, 36]), torch.Size([2, 36, 64]))
    """

    places: Tensor

    def __init__(
        self, width: int, prompted: int, *, grid: tuple[int, int], pixels: int, blind: bool = False
    ) -> None:
        super().__init__()
        self.blind = blind
        rows, columns = torch.meshgrid(*(torch.arange(n) / max(1, n - 1) for n in grid), indexing="ij")
        self.register_buffer("places", torch.stack([rows, columns], -1).flatten(0, 1), persistent=False)
        self.figure = _two_layers(width * prompted, HIDDEN)
        self.view = _two_layers(HIDDEN + 4, 1)
        self.heat = _two_layers(width + HIDDEN + 5, 1)
        self.mask = _two_layers(width + 1, pixels)

    def forward(
        self, features: Float[Tensor, "picture patch d"], figure: Int[Tensor, "picture prompted"]
    ) -> Gaze:
        """Read pictures, each with the numbers of the patches of its figure."""
        n = features.shape[1]
        seen = features.gather(1, figure[..., None].expand(-1, -1, features.shape[-1])).flatten(1)
        who = self.figure(seen)[:, None].expand(-1, n, -1)
        middle = self.places[figure].mean(1, keepdim=True)
        where = torch.cat([self.places.expand(len(features), -1, -1), self.places - middle], -1)
        view = self.view(torch.cat([who, where], -1))
        handed = torch.zeros_like(view) if self.blind else view.sigmoid()
        heat = self.heat(torch.cat([features, who, where, handed], -1))[..., 0].log_softmax(-1)
        mask = self.mask(torch.cat([features, heat.exp()[..., None]], -1))
        return Gaze(view[..., 0], heat, mask)


def _two_layers(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, out))


@dataclass(frozen=True, eq=False)
class GazeScenes:
    """Drawn pictures with an arrow that looks at an object, as features and truth.

    Attributes:
        features: Of patches, with mean 0 and spread 1 by channel.
        figure: Numbers of the patches of each arrow's cell.
        view: Which patches lie in the cells in front of it.
        own: Which patches are of the object that it looks at.
        others: Which are of each other object.
        mask: Which pixels of each patch are of the object that is looked at.
        pixels: The pictures, uint8.
        grid: Rows and columns of patches.
    """

    features: Float[Tensor, "picture patch d"]
    figure: Int[Tensor, "picture prompted"]
    view: Bool[Tensor, "picture patch"]
    own: Bool[np.ndarray, "picture row column"]
    others: Bool[np.ndarray, "picture thing row column"]
    mask: Bool[Tensor, "picture patch pixel"]
    pixels: np.ndarray
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.features)


def draw_gazes(
    model: TransformerBridge, world: World, *, n: int, seed: int, layer: int, training: int
) -> GazeScenes:
    """Draw pictures in which an arrow looks at the nearest object in front of it, as a model's patches.

    Args:
        n: How many are drawn; a few of them have no place for an arrow and are left out.
        layer: After which patches are read.
        training: The first so many say what mean and spread are.

    Raises:
        ModelError: for a model that reads no pictures, or whose patches do not divide the cells of a scene.
    """
    shown = draw_pictures(model, world, n=n, seed=seed, change=lambda laid: point_at_first(laid, seed=seed))
    rows, columns = shown.grid
    owner = owner_map(shown.layout, shown.world)
    figure = torch.as_tensor(cell_patches(shown.grid))[torch.as_tensor(shown.layout.arrow.astype(int) // 4)]
    view = np.repeat(np.repeat(in_view(shown.layout), rows // GRID, 1), columns // GRID, 2)
    features = patch_features(model, shown, layer)
    return GazeScenes(
        features=standardised(features, features[:training]),
        figure=figure.to(features.device),
        view=torch.as_tensor(view.reshape(len(view), -1), device=features.device),
        own=shown.own,
        others=shown.others,
        mask=torch.as_tensor(in_patches(owner == 0, shown.grid), device=features.device),
        pixels=shown.pixels,
        grid=shown.grid,
    )


def in_patches(
    pixels: Bool[np.ndarray, "picture height width"], grid: tuple[int, int]
) -> Bool[np.ndarray, "picture patch pixel"]:
    """Cut maps of pixels into the pixels of each patch."""
    n, (rows, columns) = len(pixels), grid
    cut = pixels.reshape(n, rows, pixels.shape[1] // rows, columns, pixels.shape[2] // columns)
    return cut.swapaxes(2, 3).reshape(n, rows * columns, -1)


def gaze_loss(
    said: Gaze, scenes: GazeScenes, items: Int[Tensor, " item"], *, view_from: Int[Tensor, " item"] | None
) -> Float[Tensor, ""]:
    """Return the mean loss of all stages, in nats.

    Args:
        view_from: The pictures whose fields of view are the labels of the first stage: ``items`` themselves, or others
            as a control; None for no labels.
    """
    own = torch.as_tensor(scenes.own, device=said.heat.device).flatten(1)[items]
    heat = -(said.heat * (own / own.sum(-1, keepdim=True))).sum(-1).mean()
    mask = F.binary_cross_entropy_with_logits(said.mask, scenes.mask[items].to(said.mask), reduction="none")
    loss = heat + mask.sum((1, 2)).mean() / OF_PIXELS
    if view_from is not None:
        loss = loss + F.binary_cross_entropy_with_logits(said.view, scenes.view[view_from].to(said.view))
    return loss


def figures_elsewhere(scenes: GazeScenes, *, seed: int) -> Int[Tensor, "picture prompted"]:
    """Return patches of a random other cell than the figure's for each picture: a prompt that says the wrong place."""
    cells = scenes.figure.unique(dim=0)
    own = (scenes.figure[:, None] == cells).all(-1).int().argmax(-1)
    steps = np.random.default_rng(seed).integers(1, len(cells), len(scenes))
    return cells[(own + torch.as_tensor(steps, device=own.device)) % len(cells)]


class GazeFit(NamedTuple):
    """How well a reader finds what is looked at: one value for each picture, from 0 to 1, higher is better.

    Attributes:
        hits: 1 where the patch with most weight is one of the object's, else 0.
        dice: Overlap of the mask of pixels with the true one.
        area: How often a patch of the object has more weight than one outside.
        mass: Share of the weight that lies on the object.
    """

    hits: Float[np.ndarray, " picture"]
    dice: Float[np.ndarray, " picture"]
    area: Float[np.ndarray, " picture"]
    mass: Float[np.ndarray, " picture"]


@torch.no_grad()
def judge_gaze(
    arm: GazeReader,
    scenes: GazeScenes,
    pictures: slice,
    *,
    figure: Int[Tensor, "picture prompted"] | None = None,
) -> tuple[GazeFit, Float[np.ndarray, "picture row column"]]:
    """Judge by mask and heat map whether a reader finds what the figures of some pictures look at.

    Args:
        pictures: Which of the scenes are judged.
        figure: Patches that the reader is told in place of each figure's own, for all scenes: a control.

    Returns:
        How well it finds it; and the heat maps, each of sum 1.

    Source:
        Towards Pixel-Level Prediction for Gaze Following, 2024 (a summary was read): Dice and area are its measures.

    Example:
        >>> import workbench as wb
        >>> model, world = wb.open_model("zoo:marked"), World(objects=(0, 0, 1, 1, 1))
        >>> scenes = draw_gazes(model, world, n=8, seed=0, layer=0, training=4)
        >>> reader = GazeReader(scenes.features.shape[-1], 4, grid=scenes.grid, pixels=64)
        >>> fit, maps = judge_gaze(reader, scenes, slice(2, 5))
        >>> fit.dice.shape, maps.shape
        ((3,), (3, 6, 6))
    """
    told = scenes.figure if figure is None else figure
    said, own = arm(scenes.features[pictures], told[pictures]), scenes.own[pictures]
    heat = said.heat.exp().double().cpu().numpy()
    maps = heat.reshape(-1, *scenes.grid)
    mask, true = ((said.mask > 0).flatten(1), scenes.mask[pictures].flatten(1))
    fit = GazeFit(
        hits=np.asarray(points_inside(maps, own)),
        dice=dice(mask.cpu().numpy(), true.cpu().numpy()),
        area=map_areas(heat, own.reshape(len(own), -1)),
        mass=np.asarray(mass_inside(maps, own)),
    )
    return fit, maps
