"""A pointing head trained with several losses on drawn pictures: suppression and peak, and their controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from workbench.heads.attentive_probe import patch_features, standardised
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.gaussian_target import box_labels, gaussian_localisation, gaussian_targets, outside_mass
from workbench.heads.pointing_head import boxes_of, clicks, fit_pointing, inside_of, point
from workbench.tasks.scenes.layout import World

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Loss = Callable[[Tensor, Any], Tensor]
"""Loss of maps and the numbers of their training pictures."""
BOTH, EVEN, PEAK, SUPPRESSION, DEALT = (
    "suppression and peak",
    "a box filled evenly",
    "peak alone",
    "suppression alone",
    "boxes of other pictures",
)


class PointingTask:
    """Pictures of one noise with the boxes of their targets: the object in the white frame.

    Args:
        training, pictures: Pictures that heads are trained on, and others that they are judged on.
        layer: After which patches are read.
        seed: Of the pictures.
        dealing: Seed of the boxes of other pictures.
    """

    def __init__(
        self,
        model: TransformerBridge,
        noise: float,
        *,
        training: int,
        pictures: int,
        layer: int,
        seed: int,
        dealing: int,
    ) -> None:
        world = World(marked=True, objects=(0, 1, 1, 1), noise=noise)
        self.training = training
        self.shown = draw_pictures(model, world, n=training + pictures, seed=seed)
        features = patch_features(model, self.shown, layer)
        self.features = standardised(features, features[:training])
        self.boxes = boxes_of(self.shown, like=self.features)
        self.inside = inside_of(self.shown, like=self.features)
        self.dealt = np.random.default_rng(dealing).permutation(training)

    def losses(self) -> dict[str, Loss]:
        """Return every loss by name."""
        inside, targets = self.inside, gaussian_targets(self.boxes, self.shown.grid)
        even, far, near = box_labels(inside), outside_mass, gaussian_localisation
        return {
            BOTH: lambda maps, i: far(maps, inside[i]) + near(maps, targets[i]),
            EVEN: lambda maps, i: near(maps, even[i]),
            PEAK: lambda maps, i: near(maps, targets[i]),
            SUPPRESSION: lambda maps, i: far(maps, inside[i]),
            DEALT: lambda maps, i: far(maps, inside[self.dealt[i]]) + near(maps, targets[self.dealt[i]]),
        }

    def maps(self, loss: Loss, *, steps: int, seed: int) -> Tensor:
        """Return the maps of a trained head on the pictures that it is judged on."""
        train, test = self.features[: self.training], self.features[self.training :]
        head = fit_pointing(train, loss, grid=self.shown.grid, steps=steps, seed=seed)
        return point(head, test, self.shown.grid)

    def clicks(self, loss: Loss, *, steps: int, seed: int) -> tuple[np.ndarray, ...]:
        """Say for each picture whether the click is on the target, how far from its middle, what mass lies outside."""
        start = self.training
        return clicks(self.maps(loss, steps=steps, seed=seed), self.boxes[start:], self.inside[start:])
