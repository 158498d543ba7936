"""Does a map lie on the object that is asked about? Pointing and mass, each beside the other objects of the picture.

Any map that prefers objects to background would look as if it found the object that is asked about. The control is
therefore the *other objects*, never the background: what is measured here has both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import ShapeError
from workbench.heads.grid_maps import shares

Maps = Float[np.ndarray, "*#batch row column"]
Mask = Bool[np.ndarray, "*#batch row column"]
PerMap = Float[np.ndarray, "*#batch"] | float  # of a single map, a number


@dataclass(frozen=True, kw_only=True, eq=False)
class Localisation:
    """Where maps lie; one value per map, NaN where a map is empty.

    Attributes:
        mass: Share of the map on the object that is asked about, 0 to 1.
        other_mass: The same for another object, mean over the others.
        lift: Mean weight of a patch of this object, in units of an even map (1 is what an even map gives).
        other_lift: The same for another object: sizes of objects do not matter in lifts.
        pointing: Whether the largest value of the map is on the object; with several largest, the share that is.
        other_pointing: The same for another object, mean over the others.
    """

    mass: np.ndarray
    other_mass: np.ndarray
    lift: np.ndarray
    other_lift: np.ndarray
    pointing: np.ndarray
    other_pointing: np.ndarray


def locate(maps: Maps, own: Mask, others: Bool[np.ndarray, "*#batch thing row column"]) -> Localisation:
    """Say how much maps lie on the object that is asked about, and how much on the other objects.

    Args:
        own: Patches of the object that is asked about.
        others: Patches of each other object; one without patches is no object.

    Raises:
        ShapeError: if an object that is asked about has no patch, or a picture has no other object: without another
            object there is nothing to compare with.

    Example:
        >>> found = locate(np.array([[0.5, 0.2], [0.2, 0.1]]), *_planted())
        >>> [round(float(x), 2) for x in (found.mass, found.other_mass, found.lift, found.other_lift)]
        [0.5, 0.2, 2.0, 0.8]
    """
    own, others = np.asarray(own, dtype=bool), np.asarray(others, dtype=bool)
    there = others.any((-2, -1))
    if not own.any((-2, -1)).all():
        raise ShapeError("an object that is asked about is on no patch", hint="leave such pictures out")
    if not there.any(-1).all():
        raise ShapeError(
            "a picture has no other object, and the background is no control",
            hint="draw two objects or more in every picture",
        )
    many = np.asarray(maps)[..., None, :, :]

    def mean(values: np.ndarray | float) -> np.ndarray:
        return np.asarray(np.where(there, values, 0.0).sum(-1) / there.sum(-1))

    return Localisation(
        mass=np.asarray(mass_inside(maps, own)),
        other_mass=mean(mass_inside(many, others)),
        lift=np.asarray(lift_inside(maps, own)),
        other_lift=mean(lift_inside(many, others)),
        pointing=np.asarray(points_inside(maps, own)),
        other_pointing=mean(points_inside(many, others)),
    )


def lift_apart(maps: Maps, own: Mask, others: Bool[np.ndarray, "*#batch thing row column"]) -> float:
    """Return by how much the lift on the asked object exceeds that on the others, mean over maps: to choose a map by.

    A map that is empty counts as an even one.

    Example:
        >>> round(lift_apart(np.array([[0.5, 0.2], [0.2, 0.1]]), *_planted()), 2)  # 2.0 and 0.8
        1.2
    """
    found = locate(np.asarray(maps) + 1e-12, own, others)
    return float(np.mean(found.lift - found.other_lift))


def mass_inside(maps: Maps, mask: Mask) -> PerMap:
    """Return the share of each map inside a mask, 0 to 1; the map is made to sum to 1, NaN where it is empty.

    Example:
        >>> float(mass_inside(np.array([[0.3, 0.1], [0.1, 0.1]]), np.array([[True, False], [False, False]])).round(9))
        0.5
    """
    return (shares(maps) * np.asarray(mask)).sum((-2, -1))


def lift_inside(maps: Maps, mask: Mask) -> PerMap:
    """Return the mean weight of a patch inside a mask, in units of an even map.

    1 where the mask gets no more than its size; 0 for a mask without patches; NaN where the map is empty.
    """
    mask = np.asarray(mask)
    inside, n = mask.sum((-2, -1)), mask.shape[-2] * mask.shape[-1]
    return mass_inside(maps, mask) * n / np.maximum(inside, 1)


def points_inside(maps: Maps, mask: Mask) -> PerMap:
    """Say whether the largest value of each map is inside a mask: 1 or 0; of several largest ones the share that
    is.

    An even map thus points inside as often as a random patch does.

    Example:
        >>> mask = np.array([[True, False], [False, False]])
        >>> float(points_inside(np.array([[0.4, 0.3], [0.2, 0.1]]), mask)), float(points_inside(np.ones((2, 2)), mask))
        (1.0, 0.25)
    """
    maps = np.asarray(maps, dtype=float)
    top = maps == maps.max((-2, -1), keepdims=True)
    found = (top & np.asarray(mask)).sum((-2, -1)) / np.maximum(top.sum((-2, -1)), 1)
    return np.where(np.isnan(maps).any((-2, -1)), np.nan, found)


def best_iou(maps: Maps, mask: Mask) -> Float[np.ndarray, "*#batch"]:
    """Return the intersection over union of a mask and the patches above a threshold, at the threshold that suits best.

    Returns:
        0 to 1 for every map; 1 where all patches of the mask are above all others.

    Example:
        >>> own = np.array([[True, True], [False, False]])
        >>> float(best_iou(np.array([[0.4, 0.3], [0.2, 0.1]]), own))
        1.0
        >>> round(float(best_iou(np.array([[0.4, 0.1], [0.3, 0.2]]), own)), 3)  # the first alone, or all four
        0.5
    """
    maps, mask = np.broadcast_arrays(np.asarray(maps, dtype=float), np.asarray(mask, dtype=bool))
    flat, own = maps.reshape(*maps.shape[:-2], -1), mask.reshape(*mask.shape[:-2], -1)
    above = flat[..., None, :] >= flat[..., :, None]  # (*batch, threshold, patch)
    both, either = (above & own[..., None, :]).sum(-1), (above | own[..., None, :]).sum(-1)
    return np.asarray((both / np.maximum(either, 1)).max(-1))


def _planted() -> tuple[np.ndarray, np.ndarray]:
    """One object top left, another top right, of a grid of two by two; for the example."""
    corners = np.zeros((2, 2, 2), dtype=bool)
    corners[0, 0, 0] = corners[1, 0, 1] = True
    return corners[0], corners[1:]
