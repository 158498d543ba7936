"""`routed`: two layers that see all patches, routed regions, a window, axes, a coarse grid or random ones.

Every patch of an object names the color of the object in the white frame, which stands elsewhere in the picture.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.masks.chosen_keys import of_regions, regions_of_grid
from workbench.masks.derived import same_degree
from workbench.masks.grids import axial, grid_dilated, grid_neighborhood
from workbench.masks.sequences import neighborhood
from workbench.tasks.scenes.patch_rows import CLASSES, What, patch_rows
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.lab import LabShape
from workbench.training.mixers.normalisers import softmax
from workbench.training.mixers.picture_plugs import routed_by_content
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product

PATCH, SIDE, KEEP, LAYERS = 6, 4, 4, 2
N_PATCHES = 64  # 4 of 16 regions are 16 of these
WHAT: What = "colour"


def reader(*masks: Any, beside: Any = None, what: What = WHAT) -> LabShape:
    """Return a small reader of pictures that says a class at every patch, with one mask for each layer."""
    layers = tuple(Plugs(score=dot_product, mask=mask, mix=softmax, beside=beside) for mask in masks)
    return LabShape(
        layers=layers,
        n_ctx=N_PATCHES,
        n_out=CLASSES[what],
        patch=PATCH,
        d_model=32,
        n_heads=2,
        d_head=16,
        d_mlp=64,
        causal=False,
        each_patch=True,
    )


def random_regions(seed: int) -> Any:
    """Return a mask in which each region sees itself and as many others, drawn once, as routing would choose."""
    kept = same_degree(neighborhood(SIDE**2, KEEP), seed=seed)
    return of_regions(kept[None, None], regions_of_grid(N_PATCHES, SIDE))[0, 0]


NEAR = grid_neighborhood(N_PATCHES, 4)
ROUTED = LabComparison(
    name="routed",
    arms={
        "all keys": reader(None, None),
        "routed": reader(*(partial(routed_by_content, side=SIDE, keep=KEEP),) * LAYERS),
        "window": reader(NEAR, NEAR),
        "axial": reader(axial(N_PATCHES), axial(N_PATCHES)),
        "dilated": reader(grid_dilated(N_PATCHES, 2), grid_dilated(N_PATCHES, 2)),
        "random regions": reader(*(random_regions(280 + i) for i in range(LAYERS))),
        "random keys": reader(*(same_degree(NEAR, seed=280 + i) for i in range(LAYERS))),
    },
    reference="all keys",
    draw=partial(patch_rows, asked="framed", what=WHAT, patch=PATCH),
    steps=500,
    batch=32,
    muon=True,
    learned=0.85,
    seeds=(11, 12),
    cannot="anything but drawn pictures of 48 x 48 pixels whose patches name the color of the framed object",
)
