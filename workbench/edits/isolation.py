"""Subjects of a painter kept apart, and references moved to where they are needed.

Isolation: patches of one subject do not look at patches of another, nor at its words. Reposition: patches of a
reference picture are looked at beside the picture's own, after the reference was moved to where its object will be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import isqrt
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.core.errors import OptionError, ShapeError
from workbench.model.flow_painter.model import PainterModel
from workbench.model.flow_painter.patterns import attentions
from workbench.model.flow_painter.sample import STEPS, noise, noisy, predict, require_painter
from workbench.model.hooks import hook_name
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, Item
from workbench.tasks.canvas.words import GRID, HALF, PATCH, ROLES, SIDE, SIDES, SLOTS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NOBODY = -1
"""The subject of a word that belongs to none, and that all patches may look at."""


def isolated(
    queries: Int[Tensor, "*row query"], keys: Int[Tensor, "*row key"]
) -> Bool[Tensor, "*row query key"]:
    """Return which keys each query may look at: those of its own subject, and those of nobody.

    Args:
        queries, keys: The subject of each, by number; -1 is nobody's, which sees all and is seen by all.

    Example:
        >>> import torch
        >>> isolated(torch.tensor([0, 1]), torch.tensor([0, 1, -1])).tolist()
        [[True, False, True], [False, True, True]]
    """
    return (
        (queries[..., :, None] == keys[..., None, :])
        | (keys[..., None, :] == NOBODY)
        | (queries[..., :, None] == NOBODY)
    )


@contextmanager
def isolate(
    model: TransformerBridge,
    patches: Int[Tensor, "row patch"],
    words: Int[Tensor, "row word"],
    *,
    among: bool = True,
    to_words: bool = True,
) -> Iterator[None]:
    """Inside, patches of a picture look at patches and words of their own subject alone.

    Args:
        model: An opened painter; a pass has one row for each row of ``patches``.
        patches, words: The subject of each, by number; -1 is nobody's.
        among: Isolate what patches look at among themselves.
        to_words: Isolate what they look at among the words.

    Raises:
        ModelError: if the model does not paint.
        OptionError: if a patch is left without any word to look at.

    Source:
        IR-Diffusion 2024, as a summary says it.
    """
    require_painter(model)
    own, read = isolated(patches, patches), isolated(patches, words)
    if to_words and not bool(read.any(-1).all()):
        raise OptionError(
            "a patch is left without any word",
            hint=f"give words that are nobody's ({NOBODY}), or its subject one",
        )
    layers = range(len(model.blocks))
    hooks = [(hook_name("scores", layer), _closed(own)) for layer in layers] if among else []
    hooks += [(f"cross.{hook_name('scores', layer)}", _closed(read)) for layer in layers] if to_words else []
    with model.hooks(fwd_hooks=hooks):
        yield


def _closed(allowed: Bool[Tensor, "row query key"]):
    def close(scores: Tensor, hook: object) -> Tensor:
        if len(scores) != len(allowed):
            raise ShapeError(
                f"{len(scores)} pictures are painted, subjects are given for {len(allowed)}",
                hint="give one row of subjects for each caption",
            )
        return scores.masked_fill(~allowed[:, None], -torch.inf)

    return close


class ReferenceLooks:
    """Let patches look at those of reference pictures too, as they are at the same time; for ``paint(under=...)``.

    Args:
        model: A painter, opened or bare.
        pictures: References between -1 and 1, one for each caption.
        words: What the references show.
        moves: By how many patches each reference is moved down and right before it is looked at; what leaves the
            picture comes in on the other side.
        steps: Of painting.
        seed: Of the references' noise.

    Raises:
        ShapeError: if there are not as many captions and moves as pictures.

    Source:
        IR-Diffusion 2024, as a summary says it: positions of the reference's features become those of the subject.
    """

    def __init__(
        self,
        model: TransformerBridge | PainterModel,
        pictures: Float[Tensor, "row 3 side side"],
        words: Int[Tensor, "row word"],
        *,
        moves: Sequence[tuple[int, int]],
        steps: int = STEPS,
        seed: int = 0,
    ) -> None:
        if not len(pictures) == len(words) == len(moves):
            raise ShapeError(
                f"{len(pictures)} references, {len(words)} captions and {len(moves)} moves of them",
                hint="give one caption and one move for each reference",
            )
        self.painter, self.words, self.steps, self.seed = require_painter(model), words, steps, seed
        self.pictures = torch.stack(
            [
                picture.roll((down * PATCH, right * PATCH), (-2, -1))
                for picture, (down, right) in zip(pictures, moves, strict=True)
            ]
        )

    @contextmanager
    def __call__(self, step: int) -> Iterator[None]:
        """Inside, self-attention reads the references of this step beside the picture's own patches."""
        time = step / self.steps
        read: list[Tensor] = []
        with ExitStack() as scope:
            for attention in attentions(self.painter):
                handle = attention.register_forward_pre_hook(lambda module, given: read.append(given[1]))
                scope.callback(handle.remove)
            x = noisy(self.pictures, t=time, seed=self.seed)
            predict(self.painter, x, torch.full((len(x),), time), self.words)
        with ExitStack() as scope:
            for attention, beside in zip(attentions(self.painter), read, strict=True):
                handle = attention.register_forward_pre_hook(_beside(beside))
                scope.callback(handle.remove)
            yield


def _beside(beside: Float[Tensor, "row patch d_model"]):
    def widen(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        hidden, read = given
        return hidden, torch.cat([read, beside], 1)

    return widen


def halves(n: int, *, first_side: Sequence[int]) -> Int[Tensor, "row patch"]:
    """Return the subject of each patch: the first stands in the left (0) or right (1) half, the second in the other.

    Raises:
        OptionError: for patches that are no square.

    Example:
        >>> halves(16, first_side=[1])[0].unflatten(0, (4, 4))[0].tolist()
        [1, 1, 0, 0]
    """
    side = isqrt(n)
    if side * side != n:
        raise OptionError(f"{n} patches are no square", hint=f"n={GRID**2}")
    right = (torch.arange(n) % side >= side // 2).long()
    return torch.stack([right ^ 1 if first else right for first in first_side])


def subjects_of(
    drawings: Sequence[Drawing],
) -> tuple[Int[Tensor, "row patch"], Int[Tensor, "row word"]]:
    """Return the subjects of captions of two objects: patches by the half that is asked for, words by their object.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw_many
        >>> patches, words = subjects_of(draw_many(7, range(3), objects=2))
        >>> patches.shape, words[0].tolist()
        (torch.Size([3, 64]), [0, 0, 0, 0, 1, 1, 1, 1])
    """
    patches = halves(GRID * GRID, first_side=[SIDES.index(each.items[0].side) for each in drawings])
    words = torch.arange(len(SLOTS)).div(len(ROLES), rounding_mode="floor")
    return patches, words.expand(len(drawings), -1)


def dealt(patches: Int[Tensor, "row patch"], *, seed: int) -> Int[Tensor, "row patch"]:
    """Deal the patches of each picture to its subjects at random, as many to each: a control.

    Example:
        >>> sorted(dealt(halves(16, first_side=[1]), seed=0)[0].tolist()) == [0] * 8 + [1] * 8
        True
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([row[torch.randperm(len(row), generator=generator)] for row in patches])


def slope_between_subjects(model: TransformerBridge) -> float:
    """Measure how much the prediction of one isolated subject depends on the state of the other.

    Returns:
        The largest slope of the left half's squared prediction along a pixel of the right half; 0 where subjects do
        not feel each other.

    Raises:
        ModelError: if the model does not paint.

    Example:
        >>> import workbench as wb
        >>> slope_between_subjects(wb.open_model("zoo:painter"))
        0.0
    """
    items = (Item("red", "disc", "left"), Item("blue", "square", "right"))
    patches, own = subjects_of([Drawing(items, ((0, 0), (0, HALF)))])
    x = noise(0, range(1), side=SIDE).requires_grad_(True)
    words = torch.from_numpy(word_numbers([items]))
    with torch.enable_grad(), isolate(model, patches, own):
        found = predict(model, x, torch.tensor([0.5]), words)[..., :HALF].square().sum()
    return float(torch.autograd.grad(found, x)[0][..., HALF:].abs().max())
