"""Where a painter's patches look at each word while a picture forms, and how well that fits the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.model.flow_painter.sample import GUIDANCE, STEPS, Painted, Under, paint
from workbench.model.hooks import hook_name
from workbench.tasks.canvas.captions import slot_of
from workbench.tasks.canvas.flat_shapes import Drawing, Item, shape_masks
from workbench.tasks.canvas.picture_reader import Read
from workbench.tasks.canvas.words import GRID, OBJECT, PATCH, SHAPES, SIDE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

COVERED = 0.5
"""A patch belongs to an object that covers at least this share of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordMaps:
    """The attention of every patch to every word, at every step of painting; of the captioned pass.

    Attributes:
        weights: Shares of each patch's attention: (step, caption, layer, head, word, row, column).
    """

    captions: tuple[tuple[Item, ...], ...]
    weights: Float[Tensor, "step caption layer head word row column"]

    def of(self, caption: int, word: str) -> Float[Tensor, "step layer head row column"]:
        """Return the maps of a word of a caption, named as `slot_of` reads it."""
        return self.weights[:, caption, :, :, slot_of(self.captions[caption], word)]


def word_maps(
    model: TransformerBridge,
    captions: Sequence[str | Sequence[Item]],
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    under: Under | None = None,
    numbers: Sequence[int] | None = None,
) -> tuple[Painted, WordMaps]:
    """Paint, and keep what every patch looked at among the words.

    Args:
        under: What else the captioned passes run in; maps are as they are with it.
        numbers: Of the pictures, for their noise; by default 0, 1, 2 ...

    Returns:
        The pictures, and the maps.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:painter")
        >>> _, maps = wb.word_maps(model, ["a yellow square left"], steps=2)
        >>> maps.of(0, "yellow").shape  # step, layer, head, row, column
        torch.Size([2, 3, 4, 8, 8])
    """
    kept: list[dict[str, Tensor]] = []
    n = len(model.blocks)
    names = [f"cross.{hook_name('pattern', layer)}" for layer in range(n)]

    def looked(step: int) -> AbstractContextManager:
        kept.append({})
        return both(under, step, lambda: keeping(model, names, kept[-1]))

    painted = paint(model, captions, seed=seed, steps=steps, guidance=guidance, under=looked, numbers=numbers)
    each = [
        torch.stack([seen[name] for name in names], 1) for seen in kept
    ]  # (caption, layer, head, patch, word)
    weights = torch.stack(each).transpose(-1, -2).unflatten(-1, (GRID, GRID))
    return painted, WordMaps(captions=painted.captions, weights=weights)


@contextmanager
def keeping(model: TransformerBridge, names: Sequence[str], kept: dict[str, Tensor]) -> Iterator[None]:
    """Inside, the tensors at these hooks are kept by name, as they are after all edits."""

    def keep(tensor: Tensor, hook: object, name: str) -> None:
        kept[name] = tensor.detach()

    hooks: list[tuple[str, Callable[..., None]]] = [
        (name, lambda tensor, hook, name=name: keep(tensor, hook, name)) for name in names
    ]
    with model.hooks(fwd_hooks=hooks):
        yield


@contextmanager
def both(under: Under | None, step: int, looks: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """What a step runs in, and then what looks at it."""
    with ExitStack() as scope:
        if under is not None:
            scope.enter_context(under(step))
        scope.enter_context(looks())
        yield


def patches_of(seen: Read) -> Bool[np.ndarray, "row column"]:
    """Return the patches that an object covers by half, as the reader's template stands.

    Example:
        >>> patches_of(Read(colour="red", shape="square", row=4.0, column=4.0, overlap=1.0)).sum()
        np.int64(9)
    """
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    top, left = (int(middle - (OBJECT - 1) / 2) for middle in (seen.row, seen.column))
    mask[top : top + OBJECT, left : left + OBJECT] = shape_masks()[SHAPES.index(seen.shape)]
    return covered_patches(mask)


def covered_patches(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "row column"]:
    """Return the patches of which a mask of pixels covers at least half."""
    return mask.reshape(GRID, PATCH, GRID, PATCH).mean((1, 3)) >= COVERED


def around(patches: Bool[np.ndarray, "row column"]) -> Bool[np.ndarray, "row column"]:
    """Return patches with those beside them.

    Example:
        >>> around(np.eye(3, dtype=bool)[:1].repeat(2, 0) & [[True], [False]]).astype(int).tolist()
        [[1, 1, 0], [1, 0, 0]]
    """
    padded = np.pad(patches, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def object_patches(drawings: Sequence[Drawing]) -> Bool[Tensor, "row object patch"]:
    """Return the patches that the objects of each drawn picture cover by half; every picture has as many objects.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw_many
        >>> object_patches(draw_many(7, range(2), objects=2)).shape
        torch.Size([2, 2, 64])
    """
    masks = [[covered_patches(mask).reshape(-1) for mask in drawing.masks] for drawing in drawings]
    return torch.from_numpy(np.array(masks))


def map_overlap(map_: Float[np.ndarray, "row column"], patches: Bool[np.ndarray, "row column"]) -> float:
    """Return intersection over union of a region with as many patches, those that a map has most of.

    Returns:
        From 0 to 1; by chance about half of the region's share of the picture. NaN for an empty region.

    Example:
        >>> map_overlap(np.eye(2), np.array([[True, False], [False, True]]))
        1.0
    """
    n = int(patches.sum())
    if not n:
        return float("nan")
    top = np.zeros(map_.size, dtype=bool)
    top[np.argsort(-map_.reshape(-1), kind="stable")[:n]] = True
    own = patches.reshape(-1)
    return float((top & own).sum() / (top | own).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class MapFit:
    """How well the maps of words fit the objects that they are of.

    Attributes:
        own: Intersection over union with the word's own object: (layer, head).
        other: With the other object of the same picture.
        others: With the objects of another caption's picture: what a map has by chance of place.
        n: Words behind each number.
    """

    own: Float[np.ndarray, "layer head"]
    other: Float[np.ndarray, "layer head"]
    others: Float[np.ndarray, "layer head"]
    n: int

    def best(self) -> tuple[int, int]:
        """Return layer and head whose maps fit the own objects best, the fit with the other objects taken off.

        Example:
            >>> fit = np.array([[0.5, 0.4], [0.1, 0.2]]), np.array([[0.4, 0.1], [0.0, 0.0]])
            >>> MapFit(own=fit[0], other=fit[1], others=fit[1], n=2).best()
            (0, 1)
        """
        layer, head = np.unravel_index(int((self.own - self.other).argmax()), self.own.shape)
        return int(layer), int(head)


def map_fit(painted: Painted, maps: WordMaps, *, role: str = "colour", steps: slice = slice(None)) -> MapFit:
    """Compare the maps of a role's words, averaged over steps, with the painted objects.

    Pictures that do not show both asked objects, each once, are left out.

    Args:
        role: Which word of each object: ``colour``, ``shape``, ``side`` or ``article``.
        steps: Which steps are averaged.

    Returns:
        Overlaps from 0 to 1, one for each head, with the own and with other objects; NaN where no picture is left.

    Example:
        >>> import workbench as wb
        >>> painted, maps = wb.word_maps(wb.open_model("zoo:painter"), ["a red disc left, a blue square right"])
        >>> fit = wb.map_fit(painted, maps)
        >>> fit.n, bool(fit.own.max() > 2 * fit.other.max())
        (2, True)
    """
    found: Mapping[str, list[np.ndarray]] = {"own": [], "other": [], "others": []}
    placed = [
        placed_objects(seen, asked) for seen, asked in zip(painted.read(), painted.captions, strict=True)
    ]
    there = [i for i, places in enumerate(placed) if places is not None]
    for at, i in enumerate(there):
        away = placed[there[(at + 1) % len(there)]]
        for j, name in enumerate(("first", "second")):
            map_ = maps.of(i, f"{name} {role}")[steps].mean(0).numpy()  # (layer, head, row, column)
            places = placed[i]
            assert places is not None and away is not None
            for key, patches in (("own", places[j]), ("other", places[1 - j]), ("others", away[j])):
                found[key].append(np.array([[map_overlap(m, patches) for m in row] for row in map_]))
    shape = maps.weights.shape[2:4]
    mean = {key: np.mean(each, 0) if each else np.full(shape, np.nan) for key, each in found.items()}
    return MapFit(**mean, n=len(found["own"]))


def placed_objects(
    seen: Sequence[Read], asked: Sequence[Item]
) -> list[Bool[np.ndarray, "row column"]] | None:
    """Return the patches of each asked object, found by colour and side; None where they are not each there once."""
    places = []
    for item in asked:
        own = [each for each in seen if (each.colour, each.side) == (item.colour, item.side)]
        if len(own) != 1 or len(asked) != 2:
            return None
        places.append(patches_of(own[0]))
    return places
