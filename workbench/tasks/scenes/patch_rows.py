"""Drawn pictures whose patches are asked: each patch of an object says what it is, or what stands in the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from workbench.core.errors import OptionError
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import draw_many, owner_map
from workbench.tasks.scenes.words import COLOURS, N_CELLS, SEEN, SHAPES, SIDE

NOTHING = -1  # where nothing is asked
Asked = Literal["own", "framed"]
What = Literal["colour", "shape"]
CLASSES = {"colour": len(COLOURS), "shape": len(SHAPES)}


@dataclass(frozen=True, kw_only=True)
class PatchRows:
    """Pictures and what their patches have to say.

    Attributes:
        inputs: Pixels from -1 to 1, channels first.
        target: The class of every patch, -1 where nothing is asked; rows of patches from the top.
        slot: The object that covers most of each patch, 0 for the framed one; -1 where none covers an eighth.
    """

    inputs: Float[np.ndarray, "picture 3 height width"]
    target: Int[np.ndarray, "picture patch"]
    slot: Int[np.ndarray, "picture patch"]


def patch_rows(
    rng: np.random.Generator,
    n: int,
    *,
    asked: Asked,
    what: What = "colour",
    patch: int = 6,
    objects: tuple[float, ...] = (0, 1, 1, 1),
    noise: float = 0.04,
) -> PatchRows:
    """Draw pictures with one framed object among others, and ask every patch of every object.

    Args:
        asked: ``own`` asks a patch for the object on it, ``framed`` for the object in the white frame, which is
            asked of the patches of the others alone.
        what: Colour or shape.
        patch: Width of a patch in pixels.
        objects: Chances of one object, two objects, ...

    Raises:
        OptionError: for a patch that does not divide a picture, or another question.

    Example:
        >>> rows = patch_rows(np.random.default_rng(0), 2, asked="framed")
        >>> rows.inputs.shape, rows.target.shape, bool((rows.target[rows.slot == 0] == -1).all())
        ((2, 3, 48, 48), (2, 64), True)
    """
    if asked not in get_args(Asked) or what not in CLASSES:
        raise OptionError(f"asked={asked!r}, what={what!r}", hint="own or framed; colour or shape")
    world = World(marked=True, objects=objects, noise=noise)
    pixels, layout = draw_many(int(rng.integers(2**62)), range(n), world)
    slot = slots_of(owner_map(layout, world), patch)
    value = getattr(layout, what).astype(np.int64)
    target = np.take_along_axis(value, np.maximum(slot, 0), axis=1) if asked == "own" else value[:, :1]
    there = slot >= 0 if asked == "own" else slot > 0
    inputs = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0
    return PatchRows(inputs=inputs, target=np.where(there, target, NOTHING), slot=slot)


def slots_of(owner: Int[np.ndarray, "picture height width"], patch: int) -> Int[np.ndarray, "picture patch"]:
    """Say which object covers most of each patch; -1 where none covers an eighth of it.

    Raises:
        OptionError: for a patch that does not divide a picture.
    """
    if patch < 1 or SIDE % patch:
        raise OptionError(f"patches of {patch} pixels; {SIDE} are to be divided", hint="patch=6")
    side = SIDE // patch
    cut = owner.reshape(len(owner), side, patch, side, patch).swapaxes(2, 3).reshape(len(owner), side**2, -1)
    shares = np.stack([(cut == slot).mean(-1) for slot in range(N_CELLS)], axis=-1)
    return np.where(shares.max(-1) >= SEEN, shares.argmax(-1), NOTHING)
