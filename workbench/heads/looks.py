"""Where every head of a tower looks on one picture: the picture under the attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench.core.errors import ModelError
from workbench.heads.drawn_pictures import prompt_of
from workbench.heads.grid_maps import Size
from workbench.heads.observe import patterns_of
from workbench.heads.picture_look import Box, PictureLook
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


@torch.no_grad()
def look_at(model: TransformerBridge, picture: Picture | Scene) -> PictureLook:
    """Show a tower one picture, and keep what every head looks at.

    Args:
        picture: A picture, or a drawn scene; of a scene it is known where its objects are.

    Returns:
        The picture, the model's answer, and the attention of every head: shares from 0 to 1.

    Raises:
        ModelError: if the model reads no pictures, reads words beside them, or pictures of another size.

    Example:
        >>> import workbench as wb
        >>> look = wb.look_at(wb.open_model("zoo:marked"), wb.Picture("scene:7/12?marked=1"))
        >>> look, look.map_of("a1.h0").shape
        (PictureLook(zoo:marked at scene:7/12?marked=1: 12 heads, said yellow square), (6, 6))
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
