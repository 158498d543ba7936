"""A painter of two streams: a picture and its depth, through the same weights, told apart by a label.

Patches of both streams stand in one row, so that they look at each other and at the same words. Both streams are at the
same time, each with noise of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from workbench.model.flow_painter.model import PainterConfig, PainterModel, from_patches, to_patches, velocity
from workbench.model.flow_painter.patterns import watched_looks
from workbench.model.flow_painter.sample import GUIDANCE, STEPS, check_sampling, noise, to_pixels
from workbench.tasks.canvas.captions import read_captions, word_numbers
from workbench.tasks.canvas.flat_shapes import Item

STREAMS = ("picture", "depth")
Looks = Float[Tensor, "row layer head patch word"]


class JointPainter(PainterModel):
    """Predicts a clean picture and its clean depth together.

    Attributes:
        together: Patches look at those of both streams; without it, at those of their own.
    """

    def __init__(self, config: PainterConfig | None = None, *, together: bool = True) -> None:
        super().__init__(config or PainterConfig())
        self.together = together
        self.stream = nn.Parameter(torch.zeros(len(STREAMS), self.config.hidden_size))

    def forward(
        self,
        input_ids: Int[Tensor, "row word"],
        pixel_values: Float[Tensor, "row stream 3 height width"],
        time: Float[Tensor, " row"],
    ) -> BaseModelOutput:
        """Predict; the clean pixels of both streams, patch by patch: (row, stream, patch, 27)."""
        patches = to_patches(pixel_values.flatten(0, 1), self.config.patch_size)
        x = (self.patch_in(patches) + self.places).unflatten(0, (-1, len(STREAMS))) + self.stream[:, None]
        words = self.words(input_ids)
        if self.together:
            out = self.through(x.flatten(1, 2), words, time).unflatten(1, (len(STREAMS), -1))
        else:
            words, time = (each.repeat_interleave(len(STREAMS), 0) for each in (words, time))
            out = self.through(x.flatten(0, 1), words, time).unflatten(0, (-1, len(STREAMS)))
        return BaseModelOutput(last_hidden_state=out)


@torch.no_grad()
def joint_from(painter: PainterModel, *, seed: int = 0, together: bool = True) -> JointPainter:
    """Return a painter of two streams that begins as a painter of pictures, with a small random label of depth."""
    made = JointPainter(cast(PainterConfig, painter.config), together=together)
    made.load_state_dict({**painter.state_dict(), "stream": made.stream})
    made.stream[1].normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
    return made


def predict_joint(
    model: JointPainter,
    x: Float[Tensor, "row stream 3 side side"],
    t: Float[Tensor, " row"],
    words: Int[Tensor, "row word"],
) -> Float[Tensor, "row stream 3 side side"]:
    """Return the clean picture and the clean depth that are predicted, between -1 and 1."""
    out = model(input_ids=words, pixel_values=x, time=t).last_hidden_state
    assert out is not None
    return from_patches(out.flatten(0, 1), model.config.patch_size).unflatten(0, x.shape[:2])


@dataclass(frozen=True, kw_only=True, eq=False)
class JointlyPainted:
    """Pictures and their depths, painted together.

    Attributes:
        pictures: Pixels between about 0 and 1.
        depths: How near each pixel is: 0 the ground, up to about 1; the mean of three colours.
    """

    captions: tuple[tuple[Item, ...], ...]
    pictures: Float[Tensor, "caption side side 3"]
    depths: Float[Tensor, "caption side side"]


@torch.no_grad()
def paint_joint(
    model: JointPainter,
    captions: Sequence[str | Sequence[Item]],
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> JointlyPainted:
    """Paint a picture and its depth for each caption, as `paint` does.

    Args:
        captions: Texts, or the objects of each.
        seed: Of the noise of both streams.

    Returns:
        Pictures and depths.

    Raises:
        OptionError: if guidance is negative or there are no steps.
    """
    check_sampling(steps=steps, guidance=guidance)
    asked = read_captions(captions)
    words = torch.from_numpy(word_numbers(asked))
    x = joint_noise(seed, len(asked), side=model.config.image_size)
    times = torch.linspace(0, 1, steps + 1)
    for step in range(steps):
        t = times[step].expand(len(x))
        predicted = predict_joint(model, x, t, words)
        if guidance != 1:
            empty = predict_joint(model, x, t, torch.zeros_like(words))
            predicted = empty + guidance * (predicted - empty)
        moved = velocity(predicted.flatten(0, 1), x.flatten(0, 1), t.repeat_interleave(len(STREAMS)))
        x = x + moved.unflatten(0, x.shape[:2]) * (times[step + 1] - times[step])
    return JointlyPainted(
        captions=tuple(asked), pictures=to_pixels(x[:, 0]), depths=to_pixels(x[:, 1]).mean(-1)
    )


def joint_noise(seed: int, n: int, *, side: int) -> Float[Tensor, "row stream 3 side side"]:
    """Return the noise of both streams; that of the picture is the one `paint` begins from."""
    return torch.stack([noise(seed, range(n), side=side), noise(seed + 500_000, range(n), side=side)], 1)


@contextmanager
def joint_word_maps(
    model: JointPainter, kept: list[Float[Tensor, "row stream head patch word"]]
) -> Iterator[None]:
    """Inside, each pass adds where both streams look among the words, layer by layer; gradients go through.

    Args:
        kept: Is filled with one tensor a layer: shares of a patch's attention.
    """
    looks: list[Tensor] = []
    with watched_looks(model, looks):
        yield
    for pattern in looks:  # (row, head, patch, word)
        if model.together:
            kept.append(pattern.unflatten(2, (len(STREAMS), -1)).transpose(1, 2))
        else:
            kept.append(pattern.unflatten(0, (-1, len(STREAMS))))


@torch.no_grad()
def looks_of_streams(
    model: JointPainter,
    clean: Float[Tensor, "row stream 3 side side"],
    words: Int[Tensor, "row word"],
    *,
    t: float = 0.5,
    seed: int = 0,
) -> tuple[Looks, Looks]:
    """Record where the patches of a picture and those of its depth look among the words, made noisy once.

    Args:
        clean: Both streams, between -1 and 1.
        t: The time, from 0 (noise) to below 1.
        seed: Of the noise of both streams.

    Returns:
        Shares of a patch's attention, from 0 to 1: those of the picture, those of its depth.

    Source:
        IDOL 2024, as a summary says it: the consistency of both streams is measured on these.

    Example:
        >>> import torch
        >>> model = JointPainter().eval()
        >>> words = torch.from_numpy(word_numbers(read_captions(["a red disc left"])))
        >>> picture, depth = looks_of_streams(model, torch.zeros(1, 2, 3, 24, 24), words)
        >>> picture.shape == depth.shape, bool(picture.sum(-1).allclose(torch.tensor(1.0)))
        (True, True)
    """
    kept: list[Tensor] = []
    x = torch.lerp(joint_noise(seed, len(clean), side=clean.shape[-1]), clean, t)
    with joint_word_maps(model, kept):
        predict_joint(model, x, torch.full((len(clean),), t), words)
    picture, depth = torch.stack(kept, 1).unbind(2)  # (row, layer, head, patch, word) each
    return picture, depth
