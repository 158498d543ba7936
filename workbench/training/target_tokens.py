"""Painters that learn to put an object into a mask: some seconds of training each time, nothing is shipped.

All arms begin as `zoo:painter` with a target's vector of zero, and are stepped side by side on the same pictures, times
and noise. The vector and the attention to words are trained. Beside pixels, the maps of the target's words are drawn to
the mask: in no layer, in all, or in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.heads.concept_mask import picture_looks
from workbench.heads.word_maps import covered_patches, map_overlap
from workbench.model.flow_painter.model import PainterModel
from workbench.model.flow_painter.patterns import attentions, watched_looks
from workbench.model.flow_painter.sample import Painted, paint, predict
from workbench.model.flow_painter.target import TargetPainter, target_from
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, Item, draw_many
from workbench.tasks.canvas.words import GRID, HALF, OBJECT, SIDE, SIDES
from workbench.training.flow_painter import EMPTY, pixels_of
from workbench.training.loop import fit
from workbench.training.map_alignment import map_alignment
from workbench.training.schedule import adamw

ARMS: Mapping[str, tuple[int, ...]] = {
    "no loss": (),
    "all layers": (0, 1, 2),
    **{f"layer {i}": (i,) for i in range(3)},
}
"""Arm -> layers whose maps are drawn to the mask."""
WORDS_OF_TARGET = (1, 2)  # slots of the first object's colour and shape


@dataclass(frozen=True, kw_only=True)
class TargetTuning:
    """How the arms are trained, beside seed and start."""

    steps: int = 25
    batch: int = 16
    rate: float = 2e-3
    target_rate: float = 3e-2
    weight: float = 0.05  # of the loss about maps


TUNING = TargetTuning()


def box_patches(top: int, left: int) -> Bool[np.ndarray, " patch"]:
    """Return the patches of which an object's square covers at least half.

    Example:
        >>> int(box_patches(0, 3).sum())
        9
    """
    box = np.zeros((SIDE, SIDE), dtype=bool)
    box[top : top + OBJECT, left : left + OBJECT] = True
    return covered_patches(box).reshape(GRID * GRID)


def targets_of(drawings: Sequence[Drawing]) -> Bool[Tensor, "row patch"]:
    """Return where the first object of each picture is."""
    return torch.from_numpy(np.stack([box_patches(*drawing.corners[0]) for drawing in drawings]))


def draw_places(drawings: Sequence[Drawing], seed: int) -> list[tuple[int, int]]:
    """Draw top and left of a target for each picture, anywhere in the half where its first object is asked for.

    Example:
        >>> draw_places(draw_many(7, range(2)), 0)
        [(8, 15), (15, 14)]
    """
    draw = np.random.default_rng([seed, 1])
    down, right = SIDE - OBJECT + 1, HALF - OBJECT + 1
    lefts = [HALF * SIDES.index(drawing.items[0].side) for drawing in drawings]
    return [(int(draw.integers(down)), left + int(draw.integers(right))) for left in lefts]


def target_overlap(
    looks: Float[Tensor, "row head patch word"], masks: Bool[Tensor, "row patch"]
) -> Float[np.ndarray, " row"]:
    """Return how well each picture's map of the target's words fits a mask, the mean over heads and both words.

    Args:
        looks: Shares of each patch's attention among the words.
        masks: Of each picture.

    Returns:
        Intersection over union of the mask and of as many patches, those that the map has most of; NaN for an empty
        mask.

    Example:
        >>> import torch
        >>> looks = torch.zeros(1, 1, 4, 8)
        >>> looks[0, 0, 2, 1] = 1.0
        >>> target_overlap(looks, torch.tensor([[False, False, True, False]])).tolist()
        [1.0]
    """
    maps = looks[..., WORDS_OF_TARGET].mean((1, -1))[:, None].numpy()  # (row, 1, patch)
    return np.array([map_overlap(m, mask) for m, mask in zip(maps, masks[:, None].numpy(), strict=True)])


def target_fits(painter: PainterModel, drawings: Sequence[Drawing], *, seed: int) -> list[float]:
    """Measure how well the maps of each layer fit the first object of pictures that are made noisy once.

    Args:
        seed: Of the noise.

    Returns:
        Intersection over union of each layer, the mean over pictures.

    Example:
        >>> import workbench as wb
        >>> from workbench.model.flow_painter.sample import require_painter
        >>> painter = require_painter(wb.open_model("zoo:painter"))
        >>> [round(fit, 2) for fit in target_fits(painter, draw_many(7, range(4), objects=2), seed=0)]
        [0.05, 0.26, 0.41]
    """
    clean = pixels_of(drawings)
    words, masks = torch.from_numpy(word_numbers([d.items for d in drawings])), targets_of(drawings)
    looks = picture_looks(painter, clean, words, seed=seed).cross
    return [float(target_overlap(layer, masks).mean()) for layer in looks.unbind(1)]


def paint_targets(
    model: PainterModel,
    captions: Sequence[Sequence[Item]],
    masks: Bool[Tensor, "row patch"],
    *,
    seed: int = 0,
) -> tuple[Painted, Float[Tensor, "row head patch word"]]:
    """Paint with a target for each caption, and keep where patches looked among the words.

    Args:
        model: A painter of targets, or one that knows none and paints without.
        masks: The patches of each target.

    Returns:
        The pictures, and shares of each patch's attention, the mean over layers and steps.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> from workbench.model.flow_painter.sample import require_painter
        >>> painter = target_from(require_painter(wb.open_model("zoo:painter")))  # its vector of targets is zero
        >>> aim = torch.from_numpy(box_patches(0, 3))[None]
        >>> painted, looks = paint_targets(painter, [draw_many(7, [1])[0].items], aim)
        >>> painted.verdicts()[0].binding, looks.shape
        (True, torch.Size([1, 4, 64, 8]))
    """
    looks: list[Tensor] = []

    @contextmanager
    def aimed(step: int) -> Iterator[None]:
        aim = model.aimed(masks) if isinstance(model, TargetPainter) else nullcontext()
        with aim, watched_looks(model, looks):
            yield

    painted = paint(model, captions, seed=seed, under=aimed)
    return painted, reduce(add, looks) / len(looks)


def loss_of(
    model: TargetPainter, drawings: Sequence[Drawing], layers: Sequence[int], *, seed: int, weight: float
) -> Tensor:
    """Return the mean square of predicted pixels, and how far maps of some layers are from their masks."""
    generator = torch.Generator().manual_seed(seed)
    clean = pixels_of(drawings)
    words, masks = torch.from_numpy(word_numbers([d.items for d in drawings])), targets_of(drawings)
    t = torch.rand(len(clean), generator=generator)
    kept = torch.rand(len(clean), generator=generator) >= EMPTY
    x = torch.lerp(torch.randn(clean.shape, generator=generator), clean, t[:, None, None, None])
    looks: list[Tensor] = []
    with model.aimed(masks & kept[:, None]), watched_looks(model, looks):
        loss = (predict(model, x, t, torch.where(kept[:, None], words, 0)) - clean).square().mean()
    if not layers:
        return loss
    maps = torch.stack([looks[layer] for layer in layers], 1)[kept][..., WORDS_OF_TARGET].movedim(-1, 1)
    return loss + weight * map_alignment(maps, masks[kept][:, None, None, None].expand_as(maps)).mean()


def train_targets(
    start: PainterModel, *, seed: int, tuning: TargetTuning = TUNING
) -> dict[str, TargetPainter]:
    """Train every arm from the same painter on the same pictures.

    Returns:
        Arm -> trained painter, in evaluation mode.
    """
    made = {arm: target_from(start).requires_grad_(False) for arm in ARMS}
    optimisers = []
    for model in made.values():
        looking = nn.ModuleList(attentions(model, "cross_attn")).requires_grad_(True)
        aim = nn.ParameterList([model.target.requires_grad_(True)])
        optimisers += [
            adamw(looking, lr=tuning.rate, weight_decay=0.0),
            adamw(aim, lr=tuning.target_rate, weight_decay=0.0),
        ]

    def loss_of_step(step: int) -> Tensor:
        drawings = draw_many(seed, range(step * tuning.batch, (step + 1) * tuning.batch))
        how: dict[str, Any] = {"seed": seed * 1_000_003 + step, "weight": tuning.weight}
        return reduce(add, (loss_of(model, drawings, ARMS[arm], **how) for arm, model in made.items()))

    fit(
        nn.ModuleList(made.values()),
        loss_of_step,
        optimisers=optimisers,
        steps=tuning.steps,
        warmup=min(10, tuning.steps),
        decay=0.5,
        each=list(made.values()),
        every=1000,
        tell=lambda line: None,
    )
    for model in made.values():
        model.requires_grad_(False).eval()
    return made
