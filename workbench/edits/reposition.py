"""References for a painter: drawn in the other half, moved to where their subject will be, and looked at beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ShapeError
from workbench.edits.isolation import ReferenceLooks
from workbench.model.flow_painter.model import PainterModel
from workbench.model.flow_painter.sample import from_pixels, paint_words
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, Item
from workbench.tasks.canvas.picture_reader import judge, own_colours, read_picture
from workbench.tasks.canvas.words import HALF, NOTHING, OBJECT, OBJECTS, PATCH, SIDES, SLOTS, WORDS

Move = tuple[int, int]
"""By how many patches a reference is moved, down and right."""


def references_elsewhere(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Draw a reference for each picture of one object: its shape in the other half, as the next picture is coloured.

    Returns:
        One object each, in the colour and at the height of that of the next drawing.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw_many
        >>> drawn = draw_many(7, range(2), objects=1)
        >>> [each.caption for each in drawn], references_elsewhere(drawn)[0].caption
        (['a yellow disc right', 'a yellow square right'], 'a yellow disc left')
    """
    found = []
    for drawing, other in zip(drawings, [*drawings[1:], *drawings[:1]], strict=True):
        item, away = drawing.items[0], 1 - SIDES.index(drawing.items[0].side)
        corner = (other.corners[0][0], away * HALF + 1)
        found.append(Drawing((Item(other.items[0].colour, item.shape, SIDES[away]),), (corner,)))
    return found


def moves_onto(references: Sequence[Drawing], pictures: Float[Tensor, "row side side 3"]) -> list[Move]:
    """Say how far each reference has to be moved onto the first object of a picture.

    Returns:
        Patches down and right; 0 and 0 where a picture shows no object.

    Example:
        >>> import torch
        >>> from workbench.tasks.canvas.flat_shapes import Drawing
        >>> there = Drawing((Item("red", "disc", "right"),), ((9, 14),))
        >>> here = Drawing((Item("red", "disc", "left"),), ((3, 2),))
        >>> moves_onto([here], torch.from_numpy(there.pixels)[None])
        [(2, 4)]
    """
    found, middle = [], (OBJECT - 1) / 2
    for reference, picture in zip(references, pictures.numpy(), strict=True):
        seen, (top, left) = read_picture(picture), reference.corners[0]
        at = (seen[0].row - middle, seen[0].column - middle) if seen else (top, left)
        found.append((round((at[0] - top) / PATCH), round((at[1] - left) / PATCH)))
    return found


def paint_beside(
    painter: PainterModel,
    drawings: Sequence[Drawing],
    references: Sequence[Drawing] = (),
    moves: Sequence[Move] = (),
    *,
    seed: int = 0,
) -> Float[Tensor, "row side side 3"]:
    """Paint captions that leave the first colour out, while patches look at a reference beside the picture.

    Args:
        drawings: Whose captions are asked for.
        references: One for each, or none at all.
        moves: Of each reference.
        seed: Of the noise of pictures and references.

    Returns:
        The pictures; pixels between about 0 and 1.

    Raises:
        ShapeError: if there are not as many captions and moves as references.

    Source:
        IR-Diffusion 2024, as a summary says it.

    Example:
        >>> import workbench as wb
        >>> from workbench.model.flow_painter.sample import require_painter
        >>> from workbench.tasks.canvas.flat_shapes import draw_many
        >>> drawn = draw_many(7, range(2), objects=1)
        >>> painter, references = require_painter(wb.open_model("zoo:painter")), references_elsewhere(drawn)
        >>> moves = moves_onto(references, paint_beside(painter, drawn))
        >>> paint_beside(painter, drawn, references, moves).shape
        torch.Size([2, 24, 24, 3])
    """
    if references and len(references) != len(drawings):
        raise ShapeError(
            f"{len(drawings)} captions and {len(references)} references",
            hint="give one reference for each caption",
        )
    words = torch.from_numpy(word_numbers([each.items for each in drawings]))
    words[:, SLOTS.index(f"{OBJECTS[0]} colour")] = WORDS.index(NOTHING)
    under = None
    if references:
        shown = from_pixels(torch.from_numpy(np.stack([each.pixels for each in references])))
        told = torch.from_numpy(word_numbers([each.items for each in references]))
        under = ReferenceLooks(painter, shown, told, moves=moves, seed=seed)
    return paint_words(painter, words, seed=seed, under=under)[0]


def colours_taken(
    pictures: Float[Tensor, "row side side 3"], drawings: Sequence[Drawing], references: Sequence[Drawing]
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Say of each picture whether its object has the colour of its reference, and whether all its objects are whole.

    Args:
        drawings: Whose captions were asked for, of one object each.

    Returns:
        1 where something of the reference's colour stands in the half that is asked for, and 1 where all is whole.

    Example:
        >>> import torch
        >>> from workbench.tasks.canvas.flat_shapes import draw_many
        >>> drawn = draw_many(7, range(1), objects=1)
        >>> colours_taken(torch.from_numpy(drawn[0].pixels)[None], drawn, drawn)
        (array([1.]), array([1.]))
    """
    taken, whole = [], []
    for picture, drawing, reference in zip(pictures.numpy(), drawings, references, strict=True):
        item, seen = drawing.items[0], read_picture(picture)
        asked = [Item(reference.items[0].colour, item.shape, item.side)]
        taken.append(own_colours(seen, asked))
        whole.append(float(judge(seen, asked).intact))
    return np.array(taken), np.array(whole)
