"""Targets for encoding models: what another model holds of the object of each shape, and what it says of the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.heads.attentive_probe import patch_features, standardised
from workbench.heads.drawn_pictures import DrawnPictures, draw_pictures
from workbench.heads.image_text import patch_vectors, require_clip
from workbench.heads.localisation import lift_inside
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.words import SHAPES
from workbench.training.dense_labels import pixel_values

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

GROUPS = len(SHAPES)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupTargets:
    """Features of places, and targets in groups that are there or not.

    Attributes:
        shown: The pictures, with their truth.
    """

    features: Float[Tensor, "item place d"]
    targets: Float[Tensor, "item group target"]
    there: Bool[Tensor, "item group"]
    shown: DrawnPictures

    def __getitem__(self, rows: slice) -> GroupTargets:
        """Some of the items."""
        parts = {name: getattr(self, name)[rows] for name in ("features", "targets", "there", "shown")}
        return replace(self, **parts)

    def dealt(self, seed: int) -> GroupTargets:
        """Return the same with the targets of other items: the control."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self.features)))
        return replace(self, targets=self.targets[order], there=self.there[order])

    def objects(self) -> Bool[np.ndarray, "item group row column"]:
        """The patches of the object of each group's shape; none where it is not there."""
        layout, found = (
            self.shown.layout,
            np.zeros((len(self.features), GROUPS, *self.shown.grid), dtype=bool),
        )
        for item, group in np.argwhere(self.there.numpy()).tolist():
            slot = _slot(layout.shape[item, : layout.n[item]], group)
            found[item, group] = self.shown.objects[item, slot]
        return found


def followed(
    model: TransformerBridge, other: TransformerBridge, *, n: int, seed: int, layer: int, targets: int
) -> tuple[GroupTargets, GroupTargets]:
    """Draw pictures of four objects, with features of one model and targets of another one, a CLIP.

    Args:
        layer: After which the patches of the first model are read.
        targets: Of each group: so many random directions of the other model's space.

    Returns:
        Targets that follow objects: group ``g`` has what the other model's patches on the object of shape ``g`` hold,
        where there is exactly one; and units of the other model's whole picture, in as many groups.

    Raises:
        ModelError: if the first reads no pictures alone, or the other is no CLIP.
    """
    original: Any = require_clip(other)
    shown = draw_pictures(model, World(objects=(0, 0, 0, 1), rings=0.0), n=n, seed=seed)
    features = patch_features(model, shown, layer)
    vectors = patch_vectors(other, shown.pixels)
    drawn = torch.Generator().manual_seed(seed)
    made, there = torch.zeros(n, GROUPS, vectors.shape[-1]), torch.zeros(n, GROUPS, dtype=torch.bool)
    for item in range(n):
        own = shown.layout.shape[item, : shown.layout.n[item]]
        for group in range(GROUPS):
            if (own == group).sum() == 1:
                at = torch.from_numpy(shown.objects[item, _slot(own, group)].flatten())
                made[item, group], there[item, group] = vectors[item, at].mean(0), True
    directions = torch.randn(vectors.shape[-1], targets, generator=drawn) / vectors.shape[-1] ** 0.5
    with torch.no_grad():
        whole = original.visual_projection(
            torch.cat(
                [original.vision_model(pixel_values=part).pooler_output for part in _parts(shown.pixels)]
            )
        )
    mixed = torch.randn(whole.shape[-1], GROUPS * targets, generator=drawn) / whole.shape[-1] ** 0.5
    patches = standardised(features, features)
    objects = GroupTargets(targets=_unit(made @ directions), there=there, features=patches, shown=shown)
    units = _unit((whole @ mixed).unflatten(1, (GROUPS, targets)))
    return objects, GroupTargets(targets=units, there=torch.ones_like(there), features=patches, shown=shown)


def lifts_on(
    maps: Float[np.ndarray, "item group place"], held: GroupTargets, *, shift: int = 0
) -> Float[np.ndarray, " item"]:
    """Return how much the map of each group lies on the object of its shape, mean over the groups that are there.

    Args:
        shift: Groups get the map of the one so many before, the control.

    Returns:
        Weight of a patch in units of an even map.
    """
    objects, there = held.objects(), held.there.numpy()
    grids = np.roll(maps, shift, axis=1).reshape(*maps.shape[:2], *held.shown.grid)
    lifts = np.asarray(lift_inside(grids, objects))
    return (lifts * there).sum(1) / np.maximum(there.sum(1), 1)


def _slot(shapes: np.ndarray, group: int) -> int:
    return int(np.flatnonzero(shapes == group)[0])


def _parts(pixels: np.ndarray) -> list[Tensor]:
    return [pixel_values(part) for part in np.array_split(pixels, max(1, len(pixels) // 128))]


def _unit(targets: Tensor) -> Tensor:
    return targets / targets.flatten(0, 1).std(0).clamp(min=1e-6)
