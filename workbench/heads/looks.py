"""Where every head of a tower looks on one picture: the picture under the attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from workbench.core.errors import ModelError, OptionError, unknown
from workbench.core.show import Shown
from workbench.heads.drawn_pictures import prompt_of
from workbench.heads.grid_maps import Size, over_grid
from workbench.heads.observe import patterns_of
from workbench.model.hooks import forward
from workbench.model.identity import identity
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture
from workbench.tasks.scenes.parse import scene_of
from workbench.tasks.scenes.truth import Scene

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SCENE = "scene"
MOST_SAID = 3
Box = tuple[int, int, int, int]
"""Top, left, bottom and right in patches, half open."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureLook(Shown, shown_in="workbench.heads.show.looks"):
    """What one picture shows of every head.

    Attributes:
        patterns: Head -> its pattern, ``(query, key)``; positions are the class token, then patches row by row.
        said: The most probable classes with their probabilities; empty for a model that names none.
        objects: What a drawn picture shows, each with the patches around it; the one that is asked about is first.
    """

    model: str
    image: Picture
    grid: Size
    first: int
    patterns: Mapping[str, Float[np.ndarray, "query key"]]
    said: tuple[tuple[str, float], ...] = ()
    objects: tuple[tuple[str, Box], ...] = ()

    def map_of(self, head: str, query: int = 0) -> Float[np.ndarray, "row column"]:
        """How much a position looks at each patch; position 0 is the class token.

        Returns:
            Shares of attention from 0 to 1, rows of patches from the top.

        Raises:
            OptionError: for a head or a position that there is not.
        """
        if head not in self.patterns:
            raise unknown("head", head, self.patterns, error=OptionError)
        A = self.patterns[head]
        if not 0 <= query < len(A):
            raise OptionError(f"position {query} is outside the picture's {len(A)} positions")
        return over_grid(A[query], self.grid, first=self.first)

    def __repr__(self) -> str:
        said = f", said {self.said[0][0]}" if self.said else ""
        return f"PictureLook({self.model} at {self.image.source}: {len(self.patterns)} heads{said})"


@torch.no_grad()
def look_at(model: TransformerBridge, picture: Picture | Scene) -> PictureLook:
    """Show a tower one picture, and keep what every head looks at.

    Args:
        picture: A picture, or a drawn scene; of a scene it is known where its objects are.

    Raises:
        ModelError: if the model reads no pictures, reads words beside them, or pictures of another size.

    Example:
        >>> import workbench as wb
        >>> look = wb.look_at(wb.open_model("zoo:marked"), wb.Picture("scene:7/12?marked=1"))
        >>> look, look.map_of("a1.h0").shape
        (PictureLook(zoo:marked at scene:7/12?marked=1: 12 heads, said yellow star), (6, 6))
    """
    if isinstance(picture, Scene):
        picture = Picture(f"{SCENE}:{picture.text}")
    sight = sight_of(model)
    if sight is None or sight.token is not None:
        raise ModelError("a tower that reads pictures alone is expected", hint='wb.open_model("zoo:marked")')
    if why := sight.why_not(picture):
        raise ModelError(why)
    prompt = prompt_of(model, sight, [picture])
    seen, out = patterns_of(model, prompt).by_head(), forward(model, prompt, last_only=False)
    known = identity(model)
    return PictureLook(
        model=known.name,
        image=picture,
        grid=sight.grid,
        first=sight.first,
        patterns={head: A[0] for head, A in seen.items()},
        said=_said(out[0, 0], known.outputs) if out.shape[1] == 1 else (),
        objects=_objects(picture, sight.grid),
    )


def _said(scores: torch.Tensor, names: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """The classes with most probability."""
    if not names:
        return ()
    best = scores.double().softmax(-1).topk(min(MOST_SAID, len(names)))
    return tuple(
        (names[i], float(p)) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def _objects(image: Picture, grid: Size) -> tuple[tuple[str, Box], ...]:
    """The patches around each object of a drawn picture."""
    if image.kind != SCENE:
        return ()
    scene = scene_of(image.source.partition(":")[2])
    height, width = image.size[0] // grid[0], image.size[1] // grid[1]
    found = sorted(zip(scene.things, scene.boxes, strict=True), key=lambda one: one[0].slot)
    return tuple(
        (thing.phrase, (top // height, left // width, -(-bottom // height), -(-right // width)))
        for thing, (top, left, bottom, right) in found
        if bottom > top
    )
