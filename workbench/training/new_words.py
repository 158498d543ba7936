"""New words for a painter: two concepts are learned from one picture, each as a vector where a colour word stands."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.core.errors import OptionError, ShapeError
from workbench.model.flow_painter.model import PainterModel, from_patches, normed, to_patches
from workbench.model.flow_painter.patterns import watched_looks
from workbench.model.flow_painter.sample import from_pixels, paint_words
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, exchanged
from workbench.tasks.canvas.picture_reader import judge, leaks, own_colours, read_picture
from workbench.tasks.canvas.words import COLOURS, NOTHING, OBJECTS, SLOTS, WORDS
from workbench.training.loop import fit
from workbench.training.map_alignment import map_alignment
from workbench.training.schedule import adamw

PLACES = tuple(SLOTS.index(f"{each} colour") for each in OBJECTS)
"""The slots of the two new words."""
Masks = Bool[Tensor, "picture concept patch"]


@dataclass(frozen=True, kw_only=True)
class WordTuning:
    """How new words are learned.

    Attributes:
        weight: Of the loss that draws each word's map into its mask.
        times: ``uniform``, or ``early``: more often near noise, where it is decided what is painted.
    """

    steps: int = 100
    rate: float = 0.1
    weight: float = 0.02
    times: Literal["uniform", "early"] = "uniform"


def class_words(drawings: Sequence[Drawing], *, swapped: bool = False) -> Int[Tensor, "picture word"]:
    """Return captions without the two colours, which a painter does not know yet; shapes and sides are said.

    Args:
        swapped: With the sides exchanged.

    Raises:
        OptionError: for a picture that has not two objects.
    """
    if any(len(drawing.items) != len(PLACES) for drawing in drawings):
        raise OptionError("two concepts are learned from a picture of two objects", hint="objects=2")
    table = word_numbers([drawing.items for drawing in drawings])
    table[:, PLACES] = WORDS.index(NOTHING)
    if swapped:
        sides = [SLOTS.index(f"{each} side") for each in OBJECTS]
        table[:, sides] = table[:, sides[::-1]]
    return torch.from_numpy(table)


def learn_words(
    painter: PainterModel,
    drawings: Sequence[Drawing],
    masks: Masks | None = None,
    *,
    tuning: WordTuning | None = None,
    seed: int = 0,
) -> PainterModel:
    """Learn two new words for each picture, from that picture alone; the painter's own weights stay.

    Args:
        masks: The patches of each concept; without them pixels alone teach.

    Returns:
        A painter that knows two more words a picture, in the order of the pictures.

    Raises:
        OptionError: for a picture that has not two objects.
        ShapeError: if there are not two masks a picture.
    """
    tuning = tuning or WordTuning()
    clean = from_pixels(torch.from_numpy(np.stack([drawing.pixels for drawing in drawings])))
    named = class_words(drawings)
    if masks is not None and masks.shape[:2] != (len(drawings), len(PLACES)):
        raise ShapeError(
            f"{len(drawings)} pictures and masks of {tuple(masks.shape)}; each picture has {len(PLACES)}",
            hint="masks (picture, 2, patch)",
        )
    made = copy.deepcopy(painter).requires_grad_(False).eval()
    known = made.word[[WORDS.index(colour) for colour in COLOURS]].mean(0)
    new = nn.Parameter(known.expand(len(drawings), len(PLACES), -1).clone())  # (picture, concept, d_model)
    slots = (made.object[:, None] + made.role[None]).flatten(0, 1)
    others = made.word[named] + slots
    patches = to_patches(clean, made.config.patch_size)

    def loss_of_step(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        t = torch.rand(len(clean), generator=generator)
        t = t.square() if tuning.times == "early" else t
        noise = torch.randn(patches.shape, generator=generator)
        x = torch.lerp(noise, patches, t[:, None, None])
        words = others.clone()
        words[:, PLACES] = new + slots[list(PLACES)]
        looks: list[Tensor] = []
        with watched_looks(made, looks):
            out = made.through(made.patch_in(x) + made.places, normed(words), t)
        loss = (from_patches(out, made.config.patch_size) - clean).square().mean()
        if masks is None:
            return loss
        maps = torch.stack(looks, 1)[..., PLACES].movedim(-1, 1)  # (picture, concept, layer, head, patch)
        return loss + tuning.weight * map_alignment(maps, masks[:, :, None, None].expand_as(maps)).mean()

    fit(
        nn.ParameterList([new]),
        loss_of_step,
        optimisers=[adamw(nn.ParameterList([new]), lr=tuning.rate, weight_decay=0.0)],
        steps=tuning.steps,
        warmup=min(10, tuning.steps),
        clip=float("inf"),
        tell=lambda line: None,
    )
    made.word = nn.Parameter(torch.cat([made.word, new.detach().flatten(0, 1)]), requires_grad=False)
    return made


def new_captions(drawings: Sequence[Drawing], *, swapped: bool = False) -> Int[Tensor, "picture word"]:
    """Return captions that ask for the two new words of each picture, with the shapes that they were learned with.

    Args:
        swapped: With the sides exchanged.
    """
    table = class_words(drawings, swapped=swapped)
    for i, place in enumerate(PLACES):
        table[:, place] = len(WORDS) + len(PLACES) * torch.arange(len(table)) + i
    return table


@dataclass(frozen=True, kw_only=True, eq=False)
class PaintedWords:
    """How two learned words come out, asked for where they were and with the sides exchanged.

    Attributes:
        own: In which share of the halves something has the colour that the word asked for there was learned from.
        other: In which share something has the colour of the other word.
        intact: In which share of the two paintings all objects are whole.
    """

    own: Float[np.ndarray, " picture"]
    other: Float[np.ndarray, " picture"]
    intact: Float[np.ndarray, " picture"]


def painted_words(made: PainterModel, drawings: Sequence[Drawing], *, seed: int = 0) -> PaintedWords:
    """Paint the two new words of each picture twice, and read which colours they give.

    Args:
        made: What `learn_words` returned.
        drawings: The pictures that it learned from, each with two objects of different colours.

    Returns:
        One value a picture, the mean of both paintings.

    Raises:
        OptionError: for a picture whose objects are of one colour, where words cannot be told apart.

    Example:
        >>> import workbench as wb
        >>> from workbench.model.flow_painter.sample import require_painter
        >>> from workbench.tasks.canvas.flat_shapes import draw_unlike
        >>> painter, drawings = require_painter(wb.open_model("zoo:painter")), draw_unlike(7, 2)
        >>> made = learn_words(painter, drawings, tuning=WordTuning(steps=1))
        >>> painted_words(made, drawings).own.shape
        (2,)
    """
    if any(len({item.colour for item in drawing.items}) != len(PLACES) for drawing in drawings):
        raise OptionError("two words are told apart by two colours", hint="draw_unlike(seed, n)")
    found = []
    for swapped in (False, True):
        pictures, _ = paint_words(made, new_captions(drawings, swapped=swapped), seed=seed)
        asked = [exchanged(each.items) if swapped else each.items for each in drawings]
        seen = [read_picture(picture) for picture in pictures.numpy()]
        both = zip(seen, asked, strict=True)
        found.append([(own_colours(*each), leaks(*each), judge(*each).intact) for each in both])
    own, other, intact = np.mean(np.array(found, dtype=float), axis=0).T
    return PaintedWords(own=own, other=other, intact=intact)
