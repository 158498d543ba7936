"""Walks past two named objects, seen as panoramas of twelve views; and places full of obstacles, seen as depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from workbench.core.errors import OptionError
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import draw_many, noise_of, paint
from workbench.tasks.scenes.words import COLOURS, SHAPES, SIZES

VIEWS, SPOTS = 12, 2
SMALL, LARGE = SIZES.index("small"), SIZES.index("large")
NOWHERE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Walks:
    """Walks of several steps, each with a panorama, and an instruction that names two spots in order.

    Attributes:
        pixels: ``(walk, step, view, height, width, 3)``.
        phrases: The two spots of each walk, such as *large red star*.
        seen_in: The view that a spot is seen in, ``(walk, step, spot)``; -1 once it is passed.
        passed: The step at which the first spot is no longer seen: from there on the second is to be looked for.
    """

    pixels: UInt8[np.ndarray, "walk step view height width 3"]
    phrases: tuple[tuple[str, str], ...]
    seen_in: Int[np.ndarray, "walk step spot"]
    passed: Int[np.ndarray, " walk"]


def draw_walks(*, n: int, steps: int = 7, things: int = 1, seed: int, noise: float = 0.04) -> Walks:
    """Draw walks: things stand in every view, the spots move from view to view, and grow as they come near.

    A spot stands in its view in place of one of the things that are there.
    The first spot is passed at a step from the third to the last but one, each equally often; it is large from the
    step before on. The second one is seen all the time, and is large once the first is passed. No distractor has
    colour and shape of a spot.

    Args:
        things: In every view.

    Raises:
        OptionError: for walks of fewer than four steps.

    Example:
        >>> walks = draw_walks(n=2, steps=5, seed=0)
        >>> walks.pixels.shape, len(walks.phrases[0])
        ((2, 5, 12, 48, 48, 3), 2)
    """
    if steps < 4:
        raise OptionError(f"a walk of {steps} steps is too short; 4 are the least", hint="steps=8")
    rng = np.random.default_rng(seed)
    spots = np.stack([_two_kinds(rng) for _ in range(n)])  # (walk, spot, colour and shape)
    passed = rng.integers(2, steps - 1, n)
    seen_in = np.stack([_moving(rng, steps) for _ in range(n)])
    seen_in[np.arange(steps)[None] >= passed[:, None], 0] = NOWHERE
    world = World(
        objects=tuple(float(i == things - 1) for i in range(things)), alike=0.0, noise=noise, rings=0.0
    )
    _, still = draw_many(seed, range(n * VIEWS), world)
    rows = (np.arange(n)[:, None, None] * VIEWS + np.arange(VIEWS)).repeat(
        steps, 1
    )  # things stay where they are
    layout = still.rows(rows.flatten().tolist())
    colour, shape, size = (getattr(layout, name).copy() for name in ("colour", "shape", "size"))
    walk = np.repeat(np.arange(n), steps * VIEWS)
    for spot in range(SPOTS):
        own = spots[walk, spot]
        same = (colour == own[:, :1]) & (shape == own[:, 1:])
        shape = np.where(same, (shape + 1) % len(SHAPES), shape)
    for spot in range(SPOTS):  # after both, since a distractor that was moved may have met the other
        own = spots[walk, spot]
        same = (colour == own[:, :1]) & (shape == own[:, 1:])
        colour = np.where(same, _third_colour(spots[walk]), colour)
    near = np.arange(steps)[None] >= passed[:, None] - np.array([1, 0])[:, None, None]  # (spot, walk, step)
    for i, step, spot in np.argwhere(seen_in != NOWHERE):
        row = (i * steps + step) * VIEWS + seen_in[i, step, spot]
        colour[row, 0], shape[row, 0] = spots[i, spot]
        size[row, 0] = LARGE if near[spot, i, step] else SMALL
    layout = replace(layout, colour=colour, shape=shape, size=size)
    pixels = paint(layout, noise_of(seed + 1, range(len(layout))), world)
    named = tuple(tuple(f"large {COLOURS[c]} {SHAPES[s]}" for c, s in own) for own in spots)
    return Walks(
        pixels=pixels.reshape(n, steps, VIEWS, *pixels.shape[1:]),
        phrases=named,  # type: ignore[arg-type]
        seen_in=seen_in,
        passed=passed,
    )


def _two_kinds(rng: np.random.Generator) -> np.ndarray:
    """Colour and shape of two spots that share neither."""
    colours = rng.choice(len(COLOURS), SPOTS, replace=False)
    return np.stack([colours, rng.choice(len(SHAPES), SPOTS, replace=False)], 1)


def _third_colour(spots: np.ndarray) -> np.ndarray:
    """A colour that neither spot has, for each row."""
    free = [next(c for c in range(len(COLOURS)) if c not in own) for own in spots[:, :, 0].tolist()]
    return np.array(free)[:, None]


def _moving(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Views of two spots at every step: each turns by at most one view, and they are never in one."""
    first = rng.choice(VIEWS, SPOTS, replace=False)
    turns = rng.integers(-1, 2, steps).cumsum()
    return (first[None] + turns[:, None]) % VIEWS


@dataclass(frozen=True, kw_only=True, eq=False)
class Obstacles:
    """Round obstacles around somebody who stands in the middle.

    Attributes:
        middles: ``(place, obstacle, 2)``: row and column from the middle.
        radii: ``(place, obstacle)``.
    """

    middles: Float[np.ndarray, "place obstacle 2"]
    radii: Float[np.ndarray, "place obstacle"]

    def depth(
        self, angles: Float[np.ndarray, " ray"], *, noise: float, seed: int, far: float = 5.0
    ) -> Float[np.ndarray, "place ray"]:
        """Say how far one sees in each direction, in degrees, with noise that grows with the distance.

        Args:
            noise: Standard deviation as a share of the distance.
        """
        turned = np.deg2rad(angles)
        ways = np.stack([np.sin(turned), np.cos(turned)])
        along = self.middles @ ways  # (place, obstacle, ray)
        aside = (self.middles**2).sum(-1, keepdims=True) - along**2
        inside = self.radii[..., None] ** 2 - aside
        hit = np.where((inside > 0) & (along > 0), along - np.sqrt(inside.clip(0)), far)
        clean = hit.min(1).clip(0, far)
        return clean * (1 + noise * np.random.default_rng(seed).normal(size=clean.shape))

    def hit(
        self, headings: Float[np.ndarray, " place"], *, step: float, body: float
    ) -> Bool[np.ndarray, " place"]:
        """Say whether a step along a heading comes nearer to an obstacle than the body is wide."""
        turned = np.deg2rad(headings)
        ways = np.stack([np.sin(turned), np.cos(turned)], 1)[:, None]
        along = (self.middles * ways).sum(-1, keepdims=True).clip(0, step)
        distance = np.linalg.norm(self.middles - along * ways, axis=-1)
        return (distance < self.radii + body).any(1)


def draw_obstacles(*, n: int, obstacles: int = 12, seed: int) -> Obstacles:
    """Draw places: obstacles stand in all directions, none within arm's length of the middle.

    Example:
        >>> places = draw_obstacles(n=3, seed=0)
        >>> bool((np.linalg.norm(places.middles, axis=-1) - places.radii > 0.2).all())
        True
    """
    rng = np.random.default_rng(seed)
    radii = rng.uniform(0.1, 0.35, (n, obstacles))
    away = radii + rng.uniform(0.25, 2.0, (n, obstacles))
    turned = rng.uniform(0, 2 * np.pi, (n, obstacles))
    return Obstacles(middles=np.stack([np.sin(turned), np.cos(turned)], -1) * away[..., None], radii=radii)
