"""`halo`: two layers whose blocks of patches see a halo around them, wider and wider, or as many random patches.

Routed regions and a window of 16 patches are trained beside them: bi-level routing where what is asked for is near.

Every patch of an object names that object's shape, of which a single patch shows a corner.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.masks.derived import same_degree
from workbench.masks.grids import grid_blocks
from workbench.tasks.scenes.patch_rows import What, patch_rows
from workbench.training.mixers.arms.routed_pictures import KEEP, LAYERS, N_PATCHES, NEAR, PATCH, SIDE, reader
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.picture_plugs import DepthwiseConvolution, routed_by_content

BLOCK, HALOS, KERNEL = 2, (0, 1, 2), 3
WHAT: What = "shape"
CONVOLUTION: Any = partial(DepthwiseConvolution, kernel=KERNEL)


def around(halo: int) -> Any:
    """Return the mask of blocks with a halo."""
    return grid_blocks(N_PATCHES, BLOCK, halo=halo)


HALO = LabComparison(
    name="halo",
    arms={
        "all keys": reader(*(None,) * LAYERS, what=WHAT),
        **{f"halo {h}": reader(*(around(h),) * LAYERS, what=WHAT) for h in HALOS},
        "random keys, as halo 1": reader(
            *(same_degree(around(1), seed=300 + i) for i in range(LAYERS)), what=WHAT
        ),
        "routed": reader(*(partial(routed_by_content, side=SIDE, keep=KEEP),) * LAYERS, what=WHAT),
        "window": reader(NEAR, NEAR, what=WHAT),
        "halo 0, convolution": reader(*(around(0),) * LAYERS, beside=CONVOLUTION, what=WHAT),
        "halo 1, convolution": reader(*(around(1),) * LAYERS, beside=CONVOLUTION, what=WHAT),
    },
    reference="all keys",
    draw=partial(patch_rows, asked="own", what=WHAT, patch=PATCH),
    steps=500,
    batch=32,
    muon=True,
    learned=0.6,
    seeds=(11, 12),
    cannot="anything but drawn pictures of 48 x 48 pixels whose patches name the shape of their object",
)
