"""The drawn world: pictures of a few coloured shapes whose masks, boxes, captions and answers are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.parse import scene_of
from workbench.tasks.scenes.truth import Scene, SceneChange, Thing

if TYPE_CHECKING:
    import numpy as np


def draw(seed: int, index: int, world: World | None = None) -> Scene:
    """Return the picture of this number of a world.

    Example:
        >>> draw(7, 12).asked.phrase
        'large yellow square'
    """
    return Scene(seed, index, world or World())


def pixels_of(text: str) -> np.ndarray:
    """Return the pixels (48, 48, 3) of what stands after ``scene:`` in the source of a picture.

    Raises:
        TaskError: if it names no drawn scene.
    """
    return scene_of(text).pixels


__all__ = ["SceneChange", "Scene", "Thing", "World", "draw", "pixels_of", "scene_of"]
