"""By how much every head's output changes when a picture, or any part of a prompt, is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.heads.asked_pictures import picture_positions
from workbench.heads.hidden_keys import checked_span, hidden_span
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

How = Literal["remove", "mask"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Divergence:
    """What heads put out at the last position, with a part of the prompt and without it.

    Attributes:
        layers: The layers with attention.
        size: Norm of the difference of the two outputs, in units of z, 0 where the part is not felt.
        without: The outputs without the part.
    """

    layers: tuple[int, ...]
    size: Float[Tensor, "row layer head"]
    without: Float[Tensor, "row layer head d_head"]

    @property
    def heads(self) -> list[str]:
        """Addresses, layer by layer."""
        return [f"a{layer}.h{head}" for layer in self.layers for head in range(self.size.shape[2])]

    @property
    def by_head(self) -> Float[np.ndarray, "row head"]:
        """The sizes, in the order of ``heads``."""
        return self.size.flatten(1).double().cpu().numpy()

    def means(self) -> dict[str, float]:
        """Return the mean size of every head over the prompts, in units of z."""
        return dict(zip(self.heads, self.by_head.mean(0), strict=True))

    def ranked(self) -> list[str]:
        """Return the heads, the largest mean size first."""
        mean = self.means()
        return sorted(mean, key=lambda head: -mean[head])

    def share(self, heads: Sequence[str]) -> Float[np.ndarray, " row"]:
        """Return what part of the sizes of all heads these heads have, one share for each prompt.

        Example:
            >>> size = torch.tensor([[[3.0, 1.0]], [[2.0, 2.0]]])  # two prompts, one layer, two heads
            >>> Divergence(layers=(0,), size=size, without=size[..., None]).share(["a0.h0"]).tolist()
            [0.75, 0.5]
        """
        of = dict(zip(self.heads, self.by_head.T, strict=True))
        return np.sum([of[head] for head in heads], axis=0) / self.by_head.sum(1)

    def upper_half(self) -> list[str]:
        """Return the half of every layer's heads with the largest mean sizes, layer by layer."""
        ranked, half = self.ranked(), self.size.shape[2] // 2
        return [h for layer in self.layers for h in [r for r in ranked if layer_of(r) == layer][:half]]

    def total(self, top: int) -> Float[np.ndarray, " row"]:
        """Return the sum over layers of the largest ``top`` sizes of each layer, in units of z.

        Raises:
            OptionError: if a layer has not so many heads.
        """
        if not 1 <= top <= self.size.shape[2]:
            raise OptionError(
                f"top is {top}; a layer has {self.size.shape[2]} heads",
                hint=f"top={self.size.shape[2]}, or less",
            )
        return self.size.topk(top, dim=-1).values.sum((1, 2)).double().cpu().numpy()


@torch.no_grad()
def divergence(
    model: TransformerBridge,
    prompt: Prompt,
    *,
    without: Sequence[int] | None = None,
    how: How = "remove",
    rows: int = 128,
) -> Divergence:
    """Compare every head's output at the last position with what it is without a part of the prompt.

    Args:
        without: Positions of the part; the picture by default.
        how: ``remove`` takes the tokens out, so that later ones move up, as the paper does; ``mask`` leaves them where
            they are, and no token outside the part looks at it.
        rows: At most so many prompts in one pass.

    Returns:
        Sizes of at least 0. With ``mask``, of a head that nothing of the part reaches exactly 0.

    Raises:
        OptionError: for another way, or a part that is not in the prompt or holds its last token.

    Source:
        He et al. 2025, Cracking the Code of Hallucination in LVLMs with Vision-aware Head Divergence.

    Example:
        >>> import workbench as wb
        >>> from workbench.tasks.scenes import World
        >>> from workbench.heads.asked_pictures import ask_pictures
        >>> model = wb.open_model("zoo:vlm")
        >>> asked = ask_pictures(model, World(), kinds=["exist"], n=3, seed=7)
        >>> found = divergence(model, asked.prompt)
        >>> found.size.shape, bool((found.size[:, 1:] > 0).all())
        (torch.Size([3, 4, 4]), True)
    """
    if how not in get_args(How):
        raise OptionError(
            f"how is {how!r}; expected one of {', '.join(get_args(How))}", hint=f"how={get_args(How)[0]!r}"
        )
    part = _part(model, prompt, without)
    layers = wiring(model).attention_layers
    seen, gone = [], []
    for some in prompt.split(rows):
        seen.append(_last_outputs(model, some, layers))
        gone.append(_outputs_without(model, some, layers, part, how))
    there, away = torch.cat(seen), torch.cat(gone)
    return Divergence(layers=layers, size=(there - away).norm(dim=-1), without=away)


class TopShare(NamedTuple):
    """What part of the divergence of all heads some of them have, one share for each prompt.

    Attributes:
        chosen: Of the heads that were chosen.
        even: What they would have if all heads changed alike.
        random: Of as many random heads of the same layers, the mean of the draws.
    """

    chosen: Float[np.ndarray, " row"]
    even: Float[np.ndarray, " row"]
    random: Float[np.ndarray, " row"]


def top_share(found: Divergence, heads: Sequence[str], *, draws: int = 20, seed: int = 0) -> TopShare:
    """Compare the part of the divergence that chosen heads have with an even one and with that of random heads.

    Example:
        >>> size = torch.tensor([[[4.0, 1.0, 1.0, 2.0]]])  # one prompt, one layer, four heads
        >>> found = top_share(Divergence(layers=(0,), size=size, without=size[..., None]), ["a0.h0"])
        >>> [round(float(share[0]), 3) for share in found]  # random: a sixth of 1 + 1 + 2, each drawn alike
        [0.5, 0.25, 0.167]
    """
    drawn = matched_heads(heads, found.heads, draws=draws, seed=seed, short="all")
    even = np.full(len(found.size), len(heads) / len(found.heads))
    return TopShare(found.share(heads), even, np.mean([found.share(some) for some in drawn], axis=0))


def reinforced_heads(
    size: Float[Tensor, "row head"], response: Float[Tensor, "row head"]
) -> Bool[Tensor, "row head"]:
    """Choose the heads of one layer that are made louder: those whose divergence is above the layer's median.

    Before, a divergence counts as 0 where both it and the response without the picture are more than a standard
    deviation above the layer's mean: it comes from a strong response to words.

    Args:
        response: Squared norm of the output without the picture.

    Example:
        >>> reinforced_heads(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.ones(1, 4)).tolist()
        [[False, False, True, True]]
    """
    filtered = torch.where(_stands_out(size) & _stands_out(response), torch.zeros_like(size), size)
    return filtered > filtered.quantile(0.5, dim=-1, keepdim=True)


def _stands_out(values: Tensor) -> Tensor:
    return values > values.mean(-1, keepdim=True) + values.std(-1, correction=0, keepdim=True)


def _part(model: TransformerBridge, prompt: Prompt, without: Sequence[int] | None) -> list[int]:
    sight = sight_of(model)
    if without is not None:
        return checked_span(without, prompt.shape[1])
    if sight is None or sight.token is None:
        raise OptionError("the model has no picture among its words", hint="without=range(1, 5)")
    return list(picture_positions(prompt, sight))


def _outputs_without(
    model: TransformerBridge, prompt: Prompt, layers: Sequence[int], part: Sequence[int], how: How
) -> Float[Tensor, "row layer head d_head"]:
    n = prompt.shape[1]
    if how == "mask":
        with hidden_span(model, part, n, layers=layers):
            return _last_outputs(model, prompt, layers)
    inside = torch.zeros(n, dtype=torch.bool)
    inside[list(part)] = True
    kept = prompt.ids[:, (~inside).to(prompt.device)]
    sight = sight_of(model)
    bare = sight is None or not bool(torch.eq(kept, -1 if sight.token is None else sight.token).any())
    return _last_outputs(model, Prompt(kept) if bare else Prompt(kept, prompt.extras), layers)


def _last_outputs(model: TransformerBridge, prompt: Prompt, layers: Sequence[int]) -> Tensor:
    names = [hook_name("head-output", layer) for layer in layers]
    _, seen = record(model, prompt, names, last_only=True)
    return torch.stack([seen[name][:, -1] for name in names], dim=1)
