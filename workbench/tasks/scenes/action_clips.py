"""Clips of many frames at once in which the first object does something for a while, and another changes in passing."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Int

from workbench.core.errors import OptionError
from workbench.tasks.scenes.layout import SceneLayout
from workbench.tasks.scenes.words import COLOURS, SHAPES, SIZES

CHANGES = ("changes color", "changes size", "changes shape", "moves")
SHORTEST, LONGEST = 3, 6  # frames of an action


@dataclass(frozen=True, eq=False)
class ActedClips:
    """What happens in each clip.

    Attributes:
        action: Index into `CHANGES`.
        start, end: The first frame that differs from the one before by the action, and the first after the last such.
    """

    action: Int[np.ndarray, " clip"]
    start: Int[np.ndarray, " clip"]
    end: Int[np.ndarray, " clip"]

    def labels(self, frames: int) -> Int[np.ndarray, "clip frame"]:
        """Return what happens in every frame; ``len(CHANGES)`` for nothing."""
        at = np.arange(frames)
        inside = (at >= self.start[:, None]) & (at < self.end[:, None])
        return np.where(inside, self.action[:, None], len(CHANGES))


def act_out(layout: SceneLayout, *, frames: int, seed: int) -> tuple[SceneLayout, ActedClips]:
    """Turn every so many pictures into a clip that begins with the first of them.

    In each frame of the action the first object has another color, size, shape or place than in the frame before. The
    second object changes in the same or another way in one frame alone, which is no action.

    Args:
        layout: Of as many pictures as all clips have frames; each has two objects at least.
        frames: Of a clip.

    Returns:
        The layout of all frames, and what happens in each clip.

    Raises:
        OptionError: for clips that are too short, or pictures that do not make whole clips.

    Example:
        >>> from workbench.tasks.scenes.layout import World
        >>> from workbench.tasks.scenes.paint import lay_out_many
        >>> laid, clips = act_out(lay_out_many(0, range(24), World(objects=(0, 1))), frames=12, seed=0)
        >>> len(laid), len(clips.action), clips.labels(12).shape
        (24, 2, (2, 12))
    """
    if frames < LONGEST + 2 or len(layout) % frames:
        raise OptionError(
            f"{len(layout)} pictures are no clips of {frames} frames; {LONGEST + 2} frames at least are needed",
            hint="frames=12, and twelve pictures for each clip",
        )
    n, random = len(layout) // frames, np.random.default_rng([48, seed])
    first = np.repeat(np.arange(n) * frames, frames)
    laid = SceneLayout(**{f.name: getattr(layout, f.name)[first].copy() for f in fields(layout)})
    laid = replace(laid, ring=np.zeros_like(laid.ring))
    clips = ActedClips(*np.zeros((3, n), dtype=int))
    for clip in range(n):
        length = int(random.integers(SHORTEST, LONGEST + 1))
        start = int(random.integers(1, frames - length + 1))
        clips.action[clip], clips.start[clip], clips.end[clip] = (
            random.integers(len(CHANGES)),
            start,
            start + length,
        )
        passing, how = int(random.integers(1, frames)), int(random.integers(len(CHANGES)))
        for frame in range(1, frames):
            row = clip * frames + frame
            if start <= frame < start + length:
                _change(laid, row, clip * frames + frames, 0, int(clips.action[clip]), random)
            if frame == passing:
                _change(laid, row, clip * frames + frames, 1, how, random)
    return laid, clips


def _change(laid: SceneLayout, row: int, end: int, slot: int, how: int, random: np.random.Generator) -> None:
    """Change an object from a frame on to the end of its clip."""
    if CHANGES[how] == "moves":
        free = int(random.integers(laid.n[row], laid.cell.shape[1]))
        own, other = laid.cell[row, slot], laid.cell[row, free]
        laid.cell[row:end, slot], laid.cell[row:end, free] = other, own
        return
    name, many = (("colour", len(COLOURS)), ("size", len(SIZES)), ("shape", len(SHAPES)))[how]
    values = getattr(laid, name)
    values[row:end, slot] = (values[row, slot] + random.integers(1, many)) % many
