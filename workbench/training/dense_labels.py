"""What every patch of a drawn picture shows, as labels, and the linear heads that teach a tower to say it.

The heads are thrown away after training. They make the features of a tower planted, and a card must say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import coverage, draw_many, owner_map
from workbench.tasks.scenes.words import COLOURS, N_CELLS, SEEN, SHAPES, SIDE, SIZES

CLASSES = {"colour": len(COLOURS), "shape": len(SHAPES), "size": len(SIZES), "cell": N_CELLS}
"""Classes of each head; the background is one more, the last."""
NO_LABEL = -100
Labels = Mapping[str, Int[Tensor, "picture patch"]]


def pixel_values(pixels: np.ndarray) -> Float[Tensor, "picture 3 height width"]:
    """Return pixels (picture, height, width, 3) as the towers read them: from -1 to 1, channels first."""
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1.0


def patch_labels(layout: SceneLayout, world: World) -> Labels:
    """Say what each patch shows, for each head: an index, the background (the last index), or no label.

    A patch that an object covers by less than an eighth, but not by nothing, has no label.

    Returns:
        (picture, patch) each. A zoomed or tiny object has no size and no cell.
    """
    share = coverage(owner_map(layout, world))  # (picture, patch, slot)
    slot, most = share.argmax(-1), share.max(-1)
    picture = np.arange(len(layout))[:, None]
    found = {}
    for name, classes in CLASSES.items():
        value = getattr(layout, name)[picture, slot].astype(np.int64)
        if (name == "size" and (world.tiny or world.zoom)) or (name == "cell" and world.zoom):
            value = np.full_like(value, NO_LABEL)
        value = np.where(most >= SEEN, value, np.where(most > 0, NO_LABEL, classes))
        found[name] = torch.from_numpy(value)
    return found


PREPROCESSOR = {
    "do_resize": False,
    "do_center_crop": False,
    "do_convert_rgb": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"height": SIDE, "width": SIDE},
}
"""How `pixel_values` reads pixels, as Hugging Face writes it."""


class PatchHeads(nn.Module):
    """Linear heads from the features of a patch to what it shows."""

    def __init__(self, width: int, names: Sequence[str] = tuple(CLASSES), *, background: float = 0.3) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, CLASSES[name] + 1) for name in names})
        self.background = background

    def loss(self, features: Float[Tensor, "picture patch d_model"], labels: Labels) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the heads, in nats; the background weighs less than an object."""
        losses = []
        for name, head in self.heads.items():
            weight = torch.ones(CLASSES[name] + 1)
            weight[-1] = self.background
            losses.append(cross_entropy(head(features).flatten(0, 1), labels[name].flatten(), weight=weight))
        return torch.stack(losses).sum()

    @torch.no_grad()
    def right(self, features: Float[Tensor, "picture patch d_model"], labels: Labels) -> dict[str, float]:
        """Return the share of the patches with an object on them whose label each head says."""
        found = {}
        for name, head in self.heads.items():
            wanted = labels[name]
            seen = (wanted != NO_LABEL) & (wanted != CLASSES[name])
            found[name] = (head(features).argmax(-1) == wanted)[seen].float().mean().item()
        return found


def background_variance(
    features: Float[Tensor, "picture patch d_model"], labels: Labels
) -> Float[Tensor, ""]:
    """Return the variance of the features of background patches, mean over the features; 0 when all are the same."""
    return features[labels["colour"] == CLASSES["colour"]].var(dim=0).mean()


def pictures_of_step(
    seed: int, step: int, n: int, world: World
) -> tuple[Float[Tensor, "picture 3 height width"], Labels, SceneLayout]:
    """Return the pictures of a training step with their labels; the number of the step decides them."""
    pixels, layout = draw_many(seed, range(step * n, (step + 1) * n), world)
    return pixel_values(pixels), patch_labels(layout, world), layout
