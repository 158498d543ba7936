"""Drawn pictures with the name of one object: which patches are like the name, with what attention of the tower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.stats.association import auroc
from workbench.heads.correlation_attention import correlation_attention
from workbench.heads.grid_maps import owned_patches
from workbench.heads.image_text import (
    grid_of,
    patch_vectors,
    phrase_vectors,
    require_clip,
    similarity_maps,
    softened,
)
from workbench.heads.localisation import Localisation, locate
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import draw_many, noise_of, owner_map, paint
from workbench.tasks.scenes.truth import things_of
from workbench.tasks.scenes.words import COLOURS, N_CELLS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Variant = tuple[str, int] | None
"""Which vectors are correlated (``qq``, ``kk``, ``vv``) in so many last layers; nothing is the tower as it is."""
Maps = Float[np.ndarray, "picture row column"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedObjects:
    """Pictures, each with a name of one of its objects.

    Attributes:
        pixels: ``(picture, height, width, 3)``.
        names: Size, colour and shape of one object of each picture.
        objects: The patches on which each object has a pixel; the first object is the one that is looked for.
    """

    model: TransformerBridge
    pixels: np.ndarray
    names: list[str]
    objects: Bool[np.ndarray, "picture thing row column"]

    def __getitem__(self, rows: slice) -> NamedObjects:
        """Some of the pictures."""
        pixels, names, objects = self.pixels[rows], self.names[rows], self.objects[rows]
        return replace(self, pixels=pixels, names=names, objects=objects)

    @property
    def own(self) -> Bool[np.ndarray, "picture row column"]:
        """The patches of the object that is looked for."""
        return self.objects[:, 0]

    def maps(self, variant: Variant = None, *, shift: int = 0) -> Maps:
        """Return the similarity of the patches of each picture with its name.

        Args:
            variant: Of the tower's attention.
            shift: Pictures get the patterns of the one so many places before: the control.
        """
        with _varied(self.model, variant, shift):
            patches = patch_vectors(self.model, self.pixels)
        return similarity_maps(patches, phrase_vectors(self.model, self.names), grid_of(self.model))

    def located(self, maps: Maps) -> Localisation:
        """Say where maps lie, sharpened by the model's own temperature."""
        scale = float(require_clip(self.model).logit_scale.exp())
        return locate(softened(maps, scale), self.own, self.objects[:, 1:])

    def told(self, maps: Maps) -> Float[np.ndarray, " picture"]:
        """Return how well a map tells patches of the object that is looked for from those of the others."""
        return told_apart(maps, self.own, np.asarray(self.objects[:, 1:].any(1)))


def told_apart(
    maps: Maps,
    own: Bool[np.ndarray, "picture row column"],
    others: Bool[np.ndarray, "picture row column"],
) -> Float[np.ndarray, " picture"]:
    """Return the area under the ROC curve of every map, for the patches of one object against those of others.

    Example:
        >>> own, others = np.array([[[True, False, False]]]), np.array([[[False, True, True]]])
        >>> told_apart(np.array([[[0.5, 0.2, 0.7]]]), own, others).tolist()  # above one of two
        [0.5]
    """
    pairs = zip(maps, own, own | others, strict=True)
    return np.array([auroc(one[there], mine[there]) for one, mine, there in pairs])


def draw_named(model: TransformerBridge, *, n: int, seed: int) -> NamedObjects:
    """Draw pictures of two to four objects that are not alike; each has the name of its first object."""
    world = World(objects=(0, 1, 1, 1), alike=0.0)
    pixels, layout = draw_many(seed, range(n), world)
    names, objects = _names(layout, 0), _objects(model, layout, world)
    return NamedObjects(model=model, pixels=pixels, names=names, objects=objects)


def draw_odd(model: TransformerBridge, *, n: int, seed: int) -> NamedObjects:
    """Draw four objects that are alike but for the colour of the first: it is odd, and the others have the name."""
    world = World(objects=(0, 0, 0, 1), alike=1.0, rings=0.0)
    _, layout = draw_many(seed, range(n), world)
    colour = layout.colour.copy()
    colour[:, 0] = (colour[:, 0] + 1 + np.arange(n) % (len(COLOURS) - 1)) % len(COLOURS)
    layout = replace(layout, colour=colour)
    pixels, objects = paint(layout, noise_of(seed, range(n)), world), _objects(model, layout, world)
    return NamedObjects(model=model, pixels=pixels, names=_names(layout, 1), objects=objects)


def _names(layout: SceneLayout, slot: int) -> list[str]:
    of = [things_of(layout, i) for i in range(len(layout))]
    return [next(thing.phrase for thing in things if thing.slot == slot) for things in of]


def _objects(
    model: TransformerBridge, layout: SceneLayout, world: World
) -> Bool[np.ndarray, "picture thing row column"]:
    return owned_patches(owner_map(layout, world), grid_of(model), n=N_CELLS)


@contextmanager
def _varied(model: Any, variant: Variant, shift: int) -> Iterator[None]:
    """Inside, the picture tower has this variant."""
    if variant is None:
        yield
        return
    of, last = variant
    layers = list(range(model.cfg.n_layers)[-last:])
    with correlation_attention(model, cast(Any, of), layers, shift=shift):
        yield
