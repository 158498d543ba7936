"""Where a concept of a caption is in a picture: looks at its words, spread by what patches look at among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.model.flow_painter.model import PainterModel
from workbench.model.flow_painter.patterns import watched_looks
from workbench.model.flow_painter.sample import noisy, predict


def concept_map(
    cross: Float[Tensor, "*row patch"], own: Float[Tensor, "*row patch patch"], *, power: int = 1
) -> Float[Tensor, "*row patch"]:
    """Spread the map of a concept along what patches look at: ``own^power @ cross``.

    Each patch takes the mean of the map over the patches that it looks at, so many times.

    Args:
        cross: How much each patch looks at the words of the concept.
        own: What patches look at among themselves; rows sum to 1.
        power: How often; 0 leaves the map.

    Returns:
        A map in the unit of ``cross``; never outside its range.

    Raises:
        ShapeError: if the patterns are of other patches than the map.
        OptionError: for a power below zero.

    Source:
        AttenCraft 2024, as a summary says it.

    Example:
        >>> import torch
        >>> concept_map(torch.tensor([0.2, 0.6]), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
        tensor([0.4000, 0.6000])
    """
    if own.shape[:-1] != cross.shape or own.shape[-1] != own.shape[-2]:
        raise ShapeError(
            f"a map of {tuple(cross.shape)} and patterns of {tuple(own.shape)}; both are of the same patches",
            hint="give patterns (..., patch, patch) for a map (..., patch)",
        )
    if power < 0:
        raise OptionError(f"power is {power}; expected 0 or more", hint="power=1")
    for _ in range(power):
        cross = (own @ cross[..., None])[..., 0]
    return cross


def concept_mask(map_: Float[Tensor, "*row patch"], *, threshold: float = 0.5) -> Bool[Tensor, "*row patch"]:
    """Return the patches of which a map has most: those above a share of the way from its least to its largest.

    Raises:
        OptionError: for a threshold that is no share.

    Example:
        >>> import torch
        >>> concept_mask(torch.tensor([0.1, 0.3, 0.5])).tolist()
        [False, True, True]
    """
    if not 0 <= threshold <= 1:
        raise OptionError(f"threshold is {threshold:g}; expected 0 to 1", hint="threshold=0.5")
    low, high = map_.amin(-1, keepdim=True), map_.amax(-1, keepdim=True)
    return map_ >= low + threshold * (high - low)


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureLooks:
    """What patches of noisy pictures look at, in one pass.

    Attributes:
        own: Among themselves.
        cross: Among the words.
    """

    own: Float[Tensor, "row layer head patch patch"]
    cross: Float[Tensor, "row layer head patch word"]


@torch.no_grad()
def picture_looks(
    painter: PainterModel,
    clean: Float[Tensor, "row 3 side side"],
    words: Int[Tensor, "row word"],
    *,
    t: float = 0.5,
    seed: int = 0,
) -> PictureLooks:
    """Record what patches look at in pictures that are made noisy once.

    Args:
        clean: Pixels between -1 and 1.
        words: Eight numbers a picture.
        t: The time, from 0 (noise) to below 1.

    Returns:
        Patterns of every layer and head.
    """
    own: list[Tensor] = []
    cross: list[Tensor] = []
    with watched_looks(painter, own, "self_attn"), watched_looks(painter, cross):
        predict(painter, noisy(clean, t=t, seed=seed), torch.full((len(clean),), t), words)
    return PictureLooks(own=torch.stack(own, 1), cross=torch.stack(cross, 1))


@dataclass(frozen=True, kw_only=True)
class ConceptMasking:
    """Which looks concept masks are made of, and how.

    Attributes:
        layer, head: Of the looks at words.
        own_layer: Of the looks among patches, the mean over heads.
        power: How often maps are spread along them.
        threshold: From its least to its largest value, what a map has to have in the mask.
    """

    layer: int
    head: int
    own_layer: int = 0
    power: int = 1
    threshold: float = 0.5


def concept_masks(
    looks: PictureLooks, slots: Sequence[int], masking: ConceptMasking, *, roll: int = 0
) -> Bool[Tensor, "row concept patch"]:
    """Mask several concepts of each picture, each by the slot of its word.

    Args:
        slots: One word for each concept.
        roll: Spread along what patches of the picture so many rows before look at: a control.

    Example:
        >>> import torch
        >>> cross = torch.tensor([[0.1, 0.8], [0.2, 0.1]])[None, None, None]  # two patches, two words
        >>> looks = PictureLooks(own=torch.eye(2)[None, None, None], cross=cross)
        >>> concept_masks(looks, [0, 1], ConceptMasking(layer=0, head=0)).tolist()
        [[[False, True], [True, False]]]
    """
    cross = looks.cross[:, masking.layer, masking.head][..., list(slots)].movedim(
        -1, 1
    )  # (row, concept, patch)
    own = looks.own[:, masking.own_layer].mean(1).roll(roll, 0)[:, None].expand(-1, len(slots), -1, -1)
    return concept_mask(concept_map(cross, own, power=masking.power), threshold=masking.threshold)


def rank_maskings(
    looks: PictureLooks,
    slots: Sequence[int],
    objects: Bool[Tensor, "row concept patch"],
    *,
    powers: Sequence[int] = (0, 1, 2),
    thresholds: Sequence[float] = (0.3, 0.5, 0.7),
) -> list[ConceptMasking]:
    """Rank every layer, head, power and threshold by how well its masks overlap the objects, the best first.

    Args:
        objects: The patches of each concept's object.

    Returns:
        All ways; those that overlap alike stay in the order of layers, heads and so on. Choose on other pictures than
        those that are judged.

    Example:
        >>> import torch
        >>> cross = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]]).reshape(1, 1, 2, 2, 1)  # head 1 looks at patch 0
        >>> looks = PictureLooks(own=torch.eye(2).expand(1, 1, 2, 2, 2), cross=cross)
        >>> rank_maskings(looks, [0], torch.tensor([[[True, False]]]))[0]
        ConceptMasking(layer=0, head=1, own_layer=0, power=0, threshold=0.3)
    """
    layers, heads = looks.cross.shape[1:3]
    every = [
        ConceptMasking(layer=layer, head=head, own_layer=own, power=power, threshold=threshold)
        for layer, head, own, power, threshold in product(
            range(layers), range(heads), range(layers), powers, thresholds
        )
    ]
    fits = [float(mask_overlap(concept_masks(looks, slots, one), objects).mean()) for one in every]
    return [every[i] for i in sorted(range(len(every)), key=lambda i: -fits[i])]


def mask_overlap(
    mask: Bool[Tensor, "*row patch"], other: Bool[Tensor, "*row patch"]
) -> Float[Tensor, "*row"]:
    """Return intersection over union of masks; 0 where both are empty.

    Example:
        >>> import torch
        >>> mask_overlap(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
        tensor(0.5000)
    """
    return (mask & other).sum(-1) / (mask | other).sum(-1).clamp_min(1)
