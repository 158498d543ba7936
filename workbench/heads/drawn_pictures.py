"""Drawn pictures as prompts of a model that sees, with the truth about them on the model's own grid of patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from workbench.core.errors import ModelError, TaskError
from workbench.heads.grid_maps import Size, owned_patches
from workbench.model.hooks import forward
from workbench.model.identity import identity
from workbench.model.pixels import with_pictures
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import lay_out_many, noise_of, owner_map, paint
from workbench.tasks.scenes.words import COLOURS, N_CELLS, SHAPES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPictures:
    """Pictures of one world with their truth.

    Attributes:
        pixels: ``(picture, height, width, 3)``, uint8.
        layout: What stands where.
        prompt: One row per picture, as the model reads it.
        sight: How the model takes a picture in.
    """

    pixels: np.ndarray
    layout: SceneLayout
    world: World
    prompt: Prompt
    sight: Sight

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice) -> DrawnPictures:
        """Some of the pictures."""
        layout = self.layout.rows(rows)
        return replace(self, pixels=self.pixels[rows], layout=layout, prompt=self.prompt[rows])

    @property
    def grid(self) -> Size:
        """Rows and columns of the model's patches."""
        return self.sight.grid

    @cached_property
    def objects(self) -> Bool[np.ndarray, "picture thing row column"]:
        """The patches on which each object has a pixel; the first object is the one that is asked about, or marked."""
        owner = owner_map(self.layout, self.world)
        return owned_patches(owner, self.grid, n=N_CELLS)

    @property
    def own(self) -> Bool[np.ndarray, "picture row column"]:
        """The patches of the object that is asked about."""
        return self.objects[:, 0]

    @property
    def others(self) -> Bool[np.ndarray, "picture thing row column"]:
        """The patches of every other object; an object that a picture does not have is on none."""
        return self.objects[:, 1:]

    def names(self) -> list[str]:
        """Return colour and shape of the object that is asked about, one name per picture."""
        pairs = zip(self.layout.colour[:, 0].tolist(), self.layout.shape[:, 0].tolist(), strict=True)
        return [f"{COLOURS[colour]} {SHAPES[shape]}" for colour, shape in pairs]


def draw_pictures(
    model: TransformerBridge,
    world: World,
    *,
    n: int,
    seed: int,
    start: int = 0,
    tower: str | None = None,
    change: Callable[[SceneLayout], tuple[SceneLayout, np.ndarray]] | None = None,
) -> DrawnPictures:
    """Draw pictures for a model that reads them alone, or for the tower of one that also reads words.

    Args:
        n: How many; their numbers begin at ``start``.
        change: What is changed in them before they are painted, and which of them can be: the others are left out.
        tower: The tower whose positions are meant; then there are no words but what stands for the picture.

    Raises:
        ModelError: if the model sees no pictures, reads words beside them, or pictures of another size.
    """
    sight = sight_of(model)
    if sight is None:
        raise ModelError("the model reads no pictures", hint="-m zoo:marked, which does")
    if sight.token is not None and tower is None:
        raise ModelError(
            "the model reads words beside its picture; a tower alone is expected", hint="-m zoo:marked"
        )
    numbers = np.arange(start, start + n)
    layout = lay_out_many(seed, numbers.tolist(), world)
    if change is not None:
        layout, able = change(layout)
        layout, numbers = layout.rows(np.flatnonzero(able).tolist()), numbers[able]
    pixels = paint(layout, noise_of(seed, numbers.tolist()), world)
    pictures = [Picture.of(each) for each in pixels]
    if why := sight.why_not(pictures[0]):
        raise ModelError(
            why, hint="use pictures of that size, or another model: -m zoo:marked reads drawn scenes"
        )
    sight = sight.of(pictures[0])
    prompt = prompt_of(model, sight, pictures)
    if sight.token is not None:
        sight = _of_tower(sight)
    return DrawnPictures(pixels=pixels, layout=layout, world=world, prompt=prompt, sight=sight)


def draw_framed(model: TransformerBridge, *, n: int, seed: int, noise: float | None = None) -> DrawnPictures:
    """Draw pictures of two to four objects, one of them in a white frame: the one that is asked about.

    Args:
        n: How many.
        noise: Standard deviation of the noise of pixels, which run from 0 to 1; by default that of `World`.

    Raises:
        ModelError: if the model sees no pictures, reads words beside them, or pictures of another size.
    """
    world = World(marked=True, objects=(0, 1, 1, 1))
    return draw_pictures(model, world if noise is None else replace(world, noise=noise), n=n, seed=seed)


def _of_tower(sight: Sight) -> Sight:
    """How the tower behind a language model takes pictures in: positions are its own.

    Raises:
        ModelError: if it is not known which of them are patches.
    """
    if sight.tower_first is None:
        raise ModelError(
            "which positions of the tower are patches is not known for this model",
            hint="name the tower with a grid of patches: tower='vision'; workbench model show NAME lists towers",
        )
    first = sight.tower_first
    return replace(sight, first=first, n_tokens=first + sight.grid[0] * sight.grid[1], token=None)


def prompt_of(model: TransformerBridge, sight: Sight, pictures: Sequence[Picture]) -> Prompt:
    """Return the pictures as the prompt of a tower alone: positions are numbered, the class token first.

    A model that also reads words gets what stands for the picture, and no words.
    """
    first = next(iter(model.parameters()))
    ids = torch.arange(sight.n_tokens, device=first.device)
    if sight.token is not None:
        ids = torch.full_like(ids, sight.token)
    ids = ids.expand(len(pictures), -1)
    return with_pictures(sight, ids, pictures, dtype=first.dtype)


def classes_of(model: TransformerBridge, names: Sequence[str]) -> Int[np.ndarray, " picture"]:
    """Return the model's class for each name.

    Raises:
        TaskError: for a name that is no class of the model, or a model whose classes have no names.
    """
    known = identity(model).outputs
    if not known:
        raise TaskError(
            "the outputs of the model have no names", hint="a classifier with id2label, such as zoo:marked"
        )
    missing = sorted({name for name in names if name not in known})
    if missing:
        raise TaskError(
            f"{missing[0]!r} is not a class of the model; it has {len(known)} classes",
            hint=f"name classes that the model has: {', '.join(known[:5])}",
        )
    return np.array([known.index(name) for name in names])


def rightly_named(
    model: TransformerBridge, drawn: DrawnPictures, under: AbstractContextManager | None = None
) -> Float[np.ndarray, " picture"]:
    """Say of each picture whether a classifier names the object that is asked about.

    Args:
        under: What the pass is in, such as ``edit.on(model)``; none asks the model as it is.

    Returns:
        1 where it does, 0 where it does not.

    Raises:
        TaskError: for a model whose classes are not the drawn objects.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:marked")
        >>> drawn = draw_pictures(model, World(marked=True, noise=0.0), n=2, seed=1)
        >>> rightly_named(model, drawn).tolist()
        [1.0, 1.0]
    """
    wanted = classes_of(model, drawn.names())
    with under or nullcontext():
        said = forward(model, drawn.prompt, last_only=False).flatten(1).argmax(-1)
    return (said.cpu().numpy() == wanted).astype(float)
