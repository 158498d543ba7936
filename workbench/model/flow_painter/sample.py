"""Lets the painter paint: Euler steps along the velocity, guided away from what it would paint without a caption.

The captioned and the uncaptioned half of a guided step are two passes. What is done to the model is done in the
captioned one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError
from workbench.model.flow_painter.model import PainterModel, from_patches, velocity
from workbench.model.standing import edits_on
from workbench.tasks.canvas.captions import read_captions, word_numbers
from workbench.tasks.canvas.flat_shapes import Item
from workbench.tasks.canvas.picture_reader import PictureVerdict, Read, judge, read_picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Under = Callable[[int], AbstractContextManager[Any]]
"""What the captioned pass of a step is in, by the number of the step: an edit, or hooks that look."""
Steer = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""From the number of a step, the state, its time and the words: the state that the step begins from."""
STEPS, GUIDANCE = 20, 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Painted:
    """Pictures that were painted, and what they were asked to show.

    Attributes:
        pictures: Pixels between about 0 and 1: (caption, 24, 24, 3).
        predictions: The clean picture predicted at each step: (step, caption, 24, 24, 3).
    """

    captions: tuple[tuple[Item, ...], ...]
    pictures: Float[Tensor, "caption side side 3"]
    predictions: Float[Tensor, "step caption side side 3"]

    def read(self) -> list[tuple[Read, ...]]:
        """Read the objects of each picture."""
        return [read_picture(picture.numpy()) for picture in self.pictures]

    def verdicts(self) -> list[PictureVerdict]:
        """Judge each picture by its caption."""
        return [judge(seen, asked) for seen, asked in zip(self.read(), self.captions, strict=True)]


def require_painter(model: object) -> PainterModel:
    """Return the painter behind an opened model.

    Raises:
        ModelError: if it does not paint.
    """
    original = getattr(model, "original_model", model)
    if isinstance(original, PainterModel):
        return original
    raise ModelError(f"a {type(original).__name__} does not paint", hint="-m zoo:painter")


@torch.no_grad()
def paint(
    model: TransformerBridge | PainterModel,
    captions: Sequence[str | Sequence[Item]],
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    under: Under | None = None,
    steer: Steer | None = None,
    numbers: Sequence[int] | None = None,
) -> Painted:
    """Paint a picture for each caption.

    ``v = v(empty caption) + guidance (v(caption) - v(empty caption))``

    Args:
        model: An opened painter, or the bare one.
        captions: Texts, or the objects of each as `read_caption` gives them.
        seed: Of the noise. The noise of a picture depends on it and on the picture's number alone.
        guidance: 1 is the caption without guidance, 0 the empty caption.
        under: What the captioned passes run in.
        steer: What moves the state before each step.
        numbers: The numbers of the pictures; by default 0, 1, 2 ...

    Returns:
        The pictures, and what was predicted at each step; pixels between about 0 and 1.

    Raises:
        ModelError: if the model does not paint, or an edit stands on it, which would change both halves.
        OptionError: if guidance is negative or there are no steps.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:painter")
        >>> painted = wb.paint(model, ["a yellow square left"])
        >>> painted.pictures.shape, painted.verdicts()[0].binding
        (torch.Size([1, 24, 24, 3]), True)
    """
    require_painter(model)
    asked = read_captions(captions)
    words = torch.from_numpy(word_numbers(asked))
    how: dict[str, Any] = {"seed": seed, "steps": steps, "guidance": guidance, "numbers": numbers}
    pictures, predictions = paint_words(model, words, under=under, steer=steer, **how)
    return Painted(captions=tuple(asked), pictures=pictures, predictions=predictions)


@torch.no_grad()
def paint_words(
    model: TransformerBridge | PainterModel,
    words: Int[Tensor, "row word"],
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    under: Under | None = None,
    steer: Steer | None = None,
    numbers: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "row side side 3"], Float[Tensor, "step row side side 3"]]:
    """Paint a picture for each row of words, given by number, as `paint` does.

    Args:
        words: Eight a row; words that no caption has are allowed, such as one that was learned.

    Returns:
        The pictures, and what was predicted at each step.
    """
    check_sampling(steps=steps, guidance=guidance)
    side = require_painter(model).config.image_size
    if not isinstance(model, PainterModel) and (held := edits_on(model)):
        raise ModelError(
            f"an edit stands on the model, and would change the uncaptioned half too: {held[0]}",
            hint="paint(model, captions, under=lambda step: edit.on(model)) changes the captioned half alone",
        )
    x = noise(seed, range(len(words)) if numbers is None else numbers, side=side)
    times, predictions = torch.linspace(0, 1, steps + 1), []
    for step in range(steps):
        t = times[step].expand(len(x))
        x = x if steer is None else steer(step, x, t, words)
        with under(step) if under is not None else nullcontext():
            predicted = predict(model, x, t, words)
        if guidance != 1:
            empty = predict(model, x, t, torch.zeros_like(words))
            predicted = empty + guidance * (predicted - empty)
        predictions.append(to_pixels(predicted))
        x = x + velocity(predicted, x, t) * (times[step + 1] - times[step])
    return to_pixels(x), torch.stack(predictions)


def predict(
    model: Any, x: Float[Tensor, "row 3 side side"], t: Float[Tensor, " row"], words: Int[Tensor, "row word"]
) -> Float[Tensor, "row 3 side side"]:
    """Return the clean picture that an opened painter, or the bare one, predicts; pixels between -1 and 1."""
    out = model(input_ids=words, pixel_values=x, time=t)
    return from_patches(out if isinstance(out, Tensor) else out.last_hidden_state, _patch(model))


def velocity_loss(
    model: Any,
    pictures: Float[Tensor, "row side side 3"],
    captions: Sequence[Sequence[Item]],
    *,
    t: float,
    seed: int = 0,
) -> Float[Tensor, " row"]:
    """Return how far the predicted velocity is from the true one: the mean square over pixels, one per picture.

    Args:
        pictures: Pixels between 0 and 1.
        t: The time, from 0 (noise) to below 1.

    Returns:
        In squared pixel ranges per time; 0 is perfect.
    """
    clean, words = from_pixels(pictures), torch.from_numpy(word_numbers(captions))
    x, times = noisy(clean, t=t, seed=seed), torch.full((len(clean),), t)
    found = velocity(predict(model, x, times, words), x, times) - velocity(clean, x, times)
    return found.square().mean((1, 2, 3))


def check_sampling(*, steps: int, guidance: float) -> None:
    """Refuse numbers that cannot work.

    Raises:
        OptionError: saying which.
    """
    if steps < 1:
        raise OptionError(f"steps is {steps}; at least 1 is needed", hint="--steps 20")
    if not 0 <= guidance < float("inf"):
        raise OptionError(
            f"guidance is {guidance:g}; it cannot be below 0", hint="1 is no guidance, 0 the empty caption"
        )


def noise(seed: int, numbers: Iterable[int], *, side: int) -> Float[Tensor, "row 3 side side"]:
    """Return the noise that the pictures of these numbers begin as; each is the same among any others."""
    made = [
        torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed * 1_000_003 + i))
        for i in numbers
    ]
    return torch.stack(made) if made else torch.zeros(0, 3, side, side)


def noisy(
    clean: Float[Tensor, "row 3 side side"], *, t: float, seed: int
) -> Float[Tensor, "row 3 side side"]:
    """Return pictures as they are at a time between noise (0) and clean (1)."""
    return (1 - t) * noise(seed, range(len(clean)), side=clean.shape[-1]) + t * clean


def from_pixels(pictures: Float[Tensor, "row side side 3"]) -> Float[Tensor, "row 3 side side"]:
    """Return pictures between 0 and 1 as the painter reads them, between -1 and 1."""
    return pictures.permute(0, 3, 1, 2) * 2 - 1


def to_pixels(x: Float[Tensor, "row 3 side side"]) -> Float[Tensor, "row side side 3"]:
    """Return what the painter writes as pictures between 0 and 1."""
    return (x.permute(0, 2, 3, 1) + 1) / 2


def _patch(model: Any) -> int:
    return getattr(model, "original_model", model).config.patch_size
