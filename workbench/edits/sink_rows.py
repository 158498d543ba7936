"""Visual attention redistribution (Kang et al. 2025): weight of sinks goes to the picture, in heads that look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.edits.place import Change, Place, Seen
from workbench.edits.redistribute import Redistribute
from workbench.engine.interventions.surgery import scale_keys
from workbench.heads.asked_pictures import AskedPictures, answered
from workbench.heads.span_attention import span_attention
from workbench.heads.visual_sinks import FoundSinks, sink_tokens
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Pattern = Float[Tensor, "row head query key"]
RATIOS = (0.8, 0.5, 0.9)
"""The paper's, of attention to the picture that is not on sinks."""
Keys = Bool[Tensor, "row key"]


def image_centric(
    pattern: Pattern, image: Keys, sinks: Keys, *, min_nonsink_ratio: float, min_visual_mass: float
) -> Bool[Tensor, "row head query"]:
    """Say which heads look at the picture, row by row of their patterns, and not at its sinks alone.

    Example:
        >>> row, image = torch.tensor([[[[0.5, 0.2, 0.2, 0.1]]]]), torch.tensor([[True, True, True, False]])
        >>> sinks = torch.tensor([[True, False, False, False]])
        >>> image_centric(row, image, sinks, min_nonsink_ratio=0.4, min_visual_mass=0.2).item()
        True
        >>> image_centric(row, image, sinks, min_nonsink_ratio=0.5, min_visual_mass=0.2).item()
        False
    """
    seen = torch.where(image[:, None, None], pattern, 0).sum(-1)
    rest = torch.where((image & ~sinks)[:, None, None], pattern, 0).sum(-1)
    return (seen >= min_visual_mass) & (rest >= min_nonsink_ratio * seen)


def redistribute(pattern: Pattern, image: Keys, sinks: Keys, *, keep: float) -> Pattern:
    """Scale the weight of sinks, and give what that frees to the patches that are none, in proportion to theirs.

    Returns:
        Rows of the same sums; a row without weight on such patches is as it was.

    Example:
        >>> row, image = torch.tensor([[[[0.5, 0.2, 0.2, 0.1]]]]), torch.tensor([[True, True, True, False]])
        >>> sinks = torch.tensor([[True, False, False, False]])
        >>> [round(w, 3) for w in redistribute(row, image, sinks, keep=0.4).flatten().tolist()]
        [0.2, 0.35, 0.35, 0.1]
    """
    return scale_keys(pattern, sinks[:, None, None], keep, recipients=(image & ~sinks)[:, None, None])


def changes_of(edit: Redistribute, place: Place) -> Sequence[Change]:
    """Patterns of the layers, once it is known which tokens are sinks there."""
    return [
        Change(layer=layer, site="pattern", heads=heads, fn=_moved(edit, layer), reads=("resid",))
        for layer, heads in place.heads(edit.addresses()).items()
    ]


def _moved(edit: Redistribute, layer: int):
    def moved(pattern: Tensor, seen: Seen) -> Tensor:
        n = pattern.shape[-1]
        if max(edit.image) >= n or min(edit.image) < 0:
            raise OptionError(
                f"the picture is at {min(edit.image)} to {max(edit.image)} of {n} positions",
                hint=f"image=(1, ..., {n - 1}): positions of this prompt that hold the picture",
            )
        image = torch.zeros(len(pattern), n, dtype=torch.bool, device=pattern.device)
        image[:, list(edit.image)] = True
        sinks = sink_tokens(seen["resid"], edit.dimensions, tau=edit.tau)
        chosen = image_centric(
            pattern,
            image,
            sinks,
            min_nonsink_ratio=edit.min_nonsink_ratio,
            min_visual_mass=edit.min_visual_mass,
        )
        behind = torch.arange(n, device=pattern.device) > max(edit.image)
        rows = _heads(edit, layer, chosen) & behind
        return torch.where(rows[..., None], redistribute(pattern, image, sinks, keep=edit.keep), pattern)

    return moved


def _heads(edit: Redistribute, layer: int, chosen: Tensor) -> Tensor:
    """The heads of every row: those that are chosen, all, or as many drawn ones."""
    if edit.choose == "all":
        return torch.ones_like(chosen)
    if edit.choose == "image-centric":
        return chosen
    generator = torch.Generator().manual_seed(edit.seed * 1009 + layer)
    rank = torch.rand(chosen.shape, generator=generator).argsort(1).argsort(1).to(chosen.device)
    return rank < chosen.sum(1, keepdim=True)


def moved_share(model: TransformerBridge, prompt: Prompt, edit: Redistribute) -> Float[np.ndarray, " row"]:
    """Say what share of the last token's row the edit moves to other keys, in the first layer that it changes.

    Returns:
        From 0 to 1 for every prompt, heads averaged; 0 where nothing moves.
    """
    whole, layer = range(prompt.shape[1]), wiring(model).attention_layers.index(edit.layers[0])
    before = span_attention(model, prompt, whole)[:, layer]
    with edit.on(model):
        after = span_attention(model, prompt, whole)[:, layer]
    return np.abs(after - before).sum(-1).mean(-1) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Redistributed:
    """Right answers with attention moved, question by question.

    Attributes:
        ratio: The ratio that answers most questions rightly among those on which it is chosen.
        tried: One row for each ratio, on the questions for choosing.
        chosen: In heads that look at the picture.
        every: In all heads.
        random: In random heads, once for each draw.
        moved: The share of the last token's row that goes to other keys.
    """

    ratio: float
    tried: Rows
    chosen: Float[np.ndarray, " question"]
    every: Float[np.ndarray, " question"]
    random: list[Float[np.ndarray, " question"]]
    moved: Float[np.ndarray, " question"]


def redistribute_on(
    model: TransformerBridge,
    choosing: AskedPictures,
    asked: AskedPictures,
    sinks: FoundSinks,
    *,
    keep: float,
    draws: int,
    seed: int,
    ratios: Sequence[float] = RATIOS,
) -> Redistributed:
    """Choose on some questions which share of a head's picture may be on sinks, and answer others with it.

    Args:
        sinks: Whose attention is moved, in all layers that they were found in but the last.
        keep: Share of its weight that a sink keeps.
        draws: Of random heads, as many in each layer, row by row.
        ratios: Among which is chosen; of equal ones the first.
    """
    edit = Redistribute(
        layers=tuple(sinks.layers[:-1]),
        image=asked.image,
        dimensions=sinks.dimensions,
        tau=sinks.tau,
        keep=keep,
    )

    def right(ratio: float, on: AskedPictures = asked, **how: Any) -> Float[np.ndarray, " question"]:
        with replace(edit, min_nonsink_ratio=ratio, **how).on(model):
            return answered(model, on)

    gains, plain = {ratio: right(ratio, choosing).mean() for ratio in ratios}, answered(model, choosing)
    best = max(ratios, key=lambda ratio: gains[ratio])
    return Redistributed(
        ratio=best,
        tried=[{"ratio": ratio, "right": one, "as it is": plain.mean()} for ratio, one in gains.items()],
        chosen=right(best),
        every=right(best, choose="all"),
        random=[right(best, choose="random", seed=seed * 997 + i) for i in range(draws)],
        moved=moved_share(model, asked.prompt, replace(edit, min_nonsink_ratio=best)),
    )
