"""Guide a painter by its attention: before each step the state moves so that a word is looked at from a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.edits.word_looks import check_region
from workbench.model.flow_painter.sample import predict
from workbench.model.hooks import hook_name

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Direction = Literal["gradient", "random"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GuidedState:
    """Called before each step, with its number: the state that the step begins from.

    ``x <- x - strength |x| g / |g|``, where g is the slope of `look_loss` along the state.

    Args:
        model: An opened painter.
        slots: The words whose looks are guided, by number.
        region: Top, left, bottom and right in patches.
        strength: How far the state moves at a time, in shares of its own length.
        until: The first step that is not guided.
        direction: ``random`` moves as far in a random direction: a control.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:painter")
        >>> up = wb.GuidedState(model=model, slots=(1, 2), region=(0, 0, 4, 8), strength=0.05, until=6)
        >>> [seen] = wb.paint(model, ["a yellow square left"], steer=up).read()[0]
        >>> seen.row < 11.5  # in the upper half
        True

    Source:
        Chen, Laina and Vedaldi 2023, arXiv:2304.03373 (backward guidance), on the state of a flow.
    """

    model: TransformerBridge
    slots: tuple[int, ...]
    region: tuple[int, int, int, int]
    strength: float = 0.05
    until: int = 8
    direction: Direction = "gradient"
    seed: int = 0

    def __post_init__(self) -> None:
        check_region(self.region)
        if not self.slots:
            raise OptionError(
                "there are no words to guide", hint="slots=(1, 2): colour and shape of the first object"
            )
        if not 0 <= self.strength < float("inf"):
            raise OptionError(f"strength is {self.strength:g}; expected a share from 0", hint="strength=0.05")
        if self.direction not in get_args(Direction):
            raise OptionError(
                f"direction is {self.direction!r:.40}; expected one of {', '.join(get_args(Direction))}",
                hint=f"direction={get_args(Direction)[0]!r}",
            )

    def __call__(
        self,
        step: int,
        x: Float[Tensor, "row 3 side side"],
        t: Float[Tensor, " row"],
        words: Int[Tensor, "row word"],
    ) -> Float[Tensor, "row 3 side side"]:
        """Return the state, moved."""
        if step >= self.until or not self.strength:
            return x
        if self.direction == "random":
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
            way = torch.randn(x.shape, generator=generator)
        else:
            way = look_slope(self.model, x, t, words, slots=self.slots, region=self.region)
        length = x.flatten(1).norm(dim=1) / way.flatten(1).norm(dim=1).clamp(min=1e-12)
        return x - self.strength * length[:, None, None, None] * way


def look_slope(
    model: TransformerBridge,
    x: Float[Tensor, "row 3 side side"],
    t: Float[Tensor, " row"],
    words: Int[Tensor, "row word"],
    *,
    slots: Sequence[int],
    region: tuple[int, int, int, int],
) -> Float[Tensor, "row 3 side side"]:
    """Return the slope of `look_loss` of the captioned pass along the state."""
    with torch.enable_grad():
        state = x.detach().requires_grad_(True)
        return torch.autograd.grad(
            look_loss(model, state, t, words, slots=slots, region=region).sum(), state
        )[0]


def look_loss(
    model: TransformerBridge,
    x: Float[Tensor, "row 3 side side"],
    t: Float[Tensor, " row"],
    words: Int[Tensor, "row word"],
    *,
    slots: Sequence[int],
    region: tuple[int, int, int, int],
) -> Float[Tensor, " row"]:
    """Say how little of the looks at some words comes from a region.

    Returns:
        The mean over words, layers and heads of ``(1 - share from the region)^2``: 0 when all do, at most 1.
    """
    names = [f"cross.{hook_name('pattern', layer)}" for layer in range(len(model.blocks))]
    seen: list[Tensor] = []
    with model.hooks(fwd_hooks=[(name, lambda pattern, hook: seen.append(pattern)) for name in names]):
        predict(model, x, t, words)
    looks = torch.stack(seen, 1)[..., list(slots)]  # (row, layer, head, patch, slot)
    inside = patches_in(region, looks.shape[3]).to(looks.device)
    share = looks[:, :, :, inside].sum(3) / looks.sum(3)
    return (1 - share).square().mean((1, 2, 3))


def patches_in(region: tuple[int, int, int, int], n_patches: int) -> Bool[Tensor, " patch"]:
    """Say which patches a region has."""
    grid = isqrt(n_patches)
    inside = torch.zeros(grid, grid, dtype=torch.bool)
    top, left, bottom, right = region
    inside[top:bottom, left:right] = True
    return inside.flatten()
