"""A map under a question divided by a map under a general instruction, and the region in which the quotient is large.

What draws attention whatever is asked is in both maps, and cancels. Numpy only.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import OptionError, ShapeError

Maps = Float[np.ndarray, "*batch row column"]


def contrastive_map(question: Maps, general: Maps, *, floor: float | None = None) -> Maps:
    """Divide a map by another one: ``question / (general + floor)``, place by place.

    It minimises ``(x general - question)^2 + floor general x^2``: a map is taken to be a signal times what the picture
    draws whatever is asked.

    Args:
        floor: The paper's lambda; by default the median of each general map. Without one, places that the general map
            hardly has would be all that is left.

    Returns:
        At least 0, in no unit: only proportions within one map mean something.

    Raises:
        ShapeError: if the two are not of one shape.
        OptionError: for a negative floor, or none where the general map is 0.

    Source:
        Ge et al. 2025, Focusing by Contrastive Attention.

    Example:
        >>> noise, signal = np.array([[0.125, 0.5], [0.25, 0.125]]), np.array([[1.0, 1.0], [3.0, 1.0]])
        >>> contrastive_map(signal * noise, noise, floor=0).tolist()
        [[1.0, 1.0], [3.0, 1.0]]
    """
    question, general = np.asarray(question, dtype=float), np.asarray(general, dtype=float)
    if question.shape != general.shape:
        raise ShapeError(
            f"a map of {question.shape} is divided by one of {general.shape}",
            hint="make both maps with one model, from pictures of one size",
        )
    if floor is not None and not floor >= 0:
        raise OptionError(
            f"floor is {floor}; at least 0 is expected", hint="leave floor out: the median is the default"
        )
    below = general + (np.median(general, axis=(-2, -1), keepdims=True) if floor is None else floor)
    if not (below > 0).all():
        raise OptionError("a general map is 0 somewhere, and so is the floor", hint="floor=1e-3")
    return question / below


def contrast_region(
    map_: Float[np.ndarray, "row column"], *, keep: float, components: int
) -> Bool[np.ndarray, "row column"]:
    """Choose the top places of a map, and of these the connected parts with the largest sums.

    Args:
        keep: Share of all places that is looked at; at least one place is.
        components: How many connected parts stay; places are connected by sides.

    Returns:
        Which places are in the region; of equal values those that come first.

    Raises:
        OptionError: for a share that is not above 0 and at most 1, or no part.

    Source:
        Ge et al. 2025, Focusing by Contrastive Attention.

    Example:
        >>> map_ = np.array([[9.0, 8.0, 0.0], [0.0, 0.0, 0.0], [7.0, 0.0, 6.0]])
        >>> contrast_region(map_, keep=4 / 9, components=2).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0], [1, 0, 0]]
    """
    if not 0 < keep <= 1 or components < 1:
        raise OptionError(
            f"keep is {keep}, components {components}; expected keep above 0 and at most 1, and at least one component",
            hint="keep=0.5, components=1",
        )
    map_ = np.asarray(map_, dtype=float)
    top = np.zeros(map_.size, dtype=bool)
    top[np.argsort(-map_, axis=None, kind="stable")[: max(1, round(keep * map_.size))]] = True
    parts = _connected(top.reshape(map_.shape))
    best = sorted(parts, key=lambda part: -float(map_[part].sum()))[:components]
    return np.logical_or.reduce(best)


def _connected(mask: Bool[np.ndarray, "row column"]) -> list[Bool[np.ndarray, "row column"]]:
    """The connected parts of a mask, by sides, in the order of their first places."""
    left, found = mask.copy(), []
    while left.any():
        part = np.zeros_like(mask)
        part[np.unravel_index(int(left.argmax()), mask.shape)] = True
        while True:
            wide = part.copy()
            wide[1:] |= part[:-1]
            wide[:-1] |= part[1:]
            wide[:, 1:] |= part[:, :-1]
            wide[:, :-1] |= part[:, 1:]
            wide &= mask
            if (wide == part).all():
                break
            part = wide
        found.append(part)
        left &= ~part
    return found
