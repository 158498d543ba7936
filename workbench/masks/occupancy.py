"""Which places around somebody are taken, from how far one sees in every direction; and which way is open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import OptionError
from workbench.tasks.scenes.walks import Obstacles

CELL = 0.1  # side of a cell; lengths have no unit of their own, a body is 0.2 wide
ASIDE = 5.0  # degrees between headings that are tried


def occupancy_mask(
    depth: Float[np.ndarray, " ray"], angles: Float[np.ndarray, " ray"], *, reach: float = 2.0
) -> Bool[np.ndarray, "row column"]:
    """Mark the cells around the middle in which a ray ends.

    Args:
        depth: How far each ray goes until something stops it.
        angles: Of the rays, in degrees, 0 along the columns, 90 along the rows.
        reach: Half the side of the mask; rays that go further mark nothing.

    Returns:
        True where something is; cells are 0.1 wide, and the middle one has whoever looks.

    Source:
        VLN-CM 2024, as its abstract has it: an occupancy mask from depth excludes waypoints that collide.

    Example:
        >>> mask = occupancy_mask(np.array([0.5]), np.array([0.0]), reach=0.6)
        >>> mask.shape, np.argwhere(mask).tolist()
        ((13, 13), [[6, 11]])
    """
    half = round(reach / CELL)
    mask = np.zeros((2 * half + 1, 2 * half + 1), bool)
    turned = np.deg2rad(angles)
    at = np.stack([depth * np.sin(turned), depth * np.cos(turned)], 1)
    cells = np.rint(at / CELL).astype(int) + half
    inside = ((cells >= 0) & (cells < len(mask))).all(1) & (depth <= reach)
    mask[tuple(cells[inside].T)] = True
    return mask


def open_heading(
    mask: Bool[np.ndarray, "row column"],
    wanted: float,
    *,
    step: float,
    body: float = 0.1,
    most: float = 45.0,
) -> float | None:
    """Find the heading nearest to the wanted one along which a step meets no taken cell.

    Args:
        wanted: In degrees, as the angles of ``occupancy_mask``.
        step: Length of the step.
        body: Half the width of whoever walks.
        most: Degrees that the heading may differ.

    Returns:
        The heading in degrees; nothing where no way is open.

    Raises:
        OptionError: for a step that leaves the mask.

    Example:
        >>> mask = np.zeros((21, 21), bool)
        >>> open_heading(mask, 30.0, step=0.5)
        30.0
        >>> mask[10, 15] = True  # half a length ahead
        >>> open_heading(mask, 0.0, step=0.6)
        20.0
    """
    half = len(mask) // 2
    if step + body > half * CELL + 1e-9:
        raise OptionError(
            f"a step of {step} and a body of {body} leave a mask that reaches {half * CELL:g}",
            hint="occupancy_mask(reach=...)",
        )
    taken = (np.argwhere(mask) - half) * CELL
    tried = np.arange(0.0, most + 1e-9, ASIDE)
    for turn in np.stack([tried, -tried], 1).flatten()[1:]:
        if distance_to_step(taken, wanted + turn, step).min(initial=np.inf) > body + CELL / 2:
            return float(wanted + turn)
    return None


def step_among(
    places: Obstacles,
    wanted: Float[np.ndarray, " place"],
    masks: Sequence[Bool[np.ndarray, "row column"]] | None,
    *,
    step: float,
    body: float,
) -> tuple[Float[np.ndarray, " place"], Float[np.ndarray, " place"]]:
    """Take one step in every place: along the open heading nearest to the wanted one, or stay where none is open.

    Args:
        wanted: In degrees.
        masks: What is taken in each place (`open_heading`); None to step straight on.

    Returns:
        1 where the step collides, else 0; and the part of a step made in the wanted direction, from 0 to 1, which is 0
        after a collision and for whoever stays.

    Source:
        VLN-CM 2024, as its abstract has it.

    Example:
        >>> wall = Obstacles(middles=np.array([[[0.0, 1.0]]]), radii=np.array([[0.25]]))
        >>> step_among(wall, np.array([0.0]), None, step=1.0, body=0.1)
        (array([1.]), array([0.]))
        >>> step_among(wall, np.array([0.0]), [np.ones((41, 41), bool)], step=1.0, body=0.1)
        (array([0.]), array([0.]))
    """
    headings, stays = wanted, np.zeros(len(wanted), bool)
    if masks is not None:
        found = [
            open_heading(mask, own, step=step, body=body) for mask, own in zip(masks, wanted, strict=True)
        ]
        stays = np.array([heading is None for heading in found])
        headings = np.array([own if one is None else one for one, own in zip(found, wanted, strict=True)])
    hit = places.hit(headings, step=step, body=body) & ~stays
    return hit.astype(float), np.where(hit | stays, 0.0, np.cos(np.deg2rad(headings - wanted)))


def distance_to_step(
    places: Float[np.ndarray, "place 2"], heading: float, step: float
) -> Float[np.ndarray, " place"]:
    """Say how near places (row, column) come to a step from the middle: the distance to its segment.

    Example:
        >>> distance_to_step(np.array([[0.3, 0.5], [0.0, 2.0]]), 0.0, 1.0).tolist()
        [0.3, 1.0]
    """
    turned = np.deg2rad(heading)
    way = np.array([np.sin(turned), np.cos(turned)])
    along = (places @ way).clip(0.0, step)
    return np.linalg.norm(places - along[:, None] * way, axis=1)
