"""Positions that nobody looks at for a while, prompt by prompt; and parts of a prompt that are as good as gone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError
from workbench.heads.asked_pictures import AskedPictures, answered, draw_patches
from workbench.heads.visual_sinks import share_among
from workbench.model.hooks import hook_name
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@contextmanager
def hidden_keys(
    model: TransformerBridge,
    hidden: Bool[Tensor, "*row _query key"],
    *,
    layers: Sequence[int] | None = None,
) -> Iterator[None]:
    """Hide keys before the softmax, in all heads of some layers: what is left keeps its proportions.

    A head that gave a hidden key nothing stays as it is to the last bit.

    Args:
        hidden: Which keys a query does not see; with rows, those of each prompt.
        layers: By default all with attention.

    Raises:
        ModelError: if scores cannot be seen in a layer.
    """
    chosen = wiring(model).attention_layers if layers is None else layers
    names = [f"blocks.{layer}.attn.hook_attn_scores" for layer in chosen]
    if missing := [name for name in names if name not in model.hook_dict]:
        raise ModelError(f"{missing[0]} is not there: keys cannot be hidden", hint='how="remove"')
    away = hidden if hidden.ndim == 2 else hidden[:, None]  # (row, head, query, key)

    def hide(scores: Tensor, hook) -> Tensor:
        return scores.masked_fill(away.to(scores.device), torch.finfo(scores.dtype).min)

    with model.hooks(fwd_hooks=[(name, hide) for name in names]):
        yield


def answered_without(
    model: TransformerBridge, asked: AskedPictures, patches: Bool[np.ndarray, "question patch"]
) -> Float[np.ndarray, " question"]:
    """Answer questions with some patches of each picture hidden from all tokens.

    Returns:
        1 for every question that is answered rightly, 0 for every other one.

    Example:
        >>> import workbench as wb
        >>> from workbench.heads.asked_pictures import ask_pictures
        >>> from workbench.tasks.scenes import World
        >>> model = wb.open_model("zoo:vlm")
        >>> asked = ask_pictures(model, World(), kinds=["colour"], n=8, seed=7)
        >>> float(answered_without(model, asked, np.zeros((8, 36), bool)).mean())
        1.0
        >>> float(answered_without(model, asked, asked.objects.any(1).reshape(8, -1)).mean()) < 1
        True
    """
    away = asked.keys(patches)[:, None]
    return answered(model, asked, under=lambda rows: hidden_keys(model, away[rows]))


def without_objects(
    model: TransformerBridge,
    asked: AskedPictures,
    many: Int[np.ndarray, " question"],
    *,
    draws: int,
    rng: np.random.Generator,
) -> list[Float[np.ndarray, " question"]]:
    """Answer questions with so many random patches of objects hidden, drawn anew each time: a control.

    Args:
        many: Patches that are hidden in each picture; its objects have as many, at least.
        draws: How often.
    """
    objects = ~asked.background
    return [answered_without(model, asked, draw_patches(objects, many, rng)) for _ in range(draws)]


@dataclass(frozen=True, kw_only=True, eq=False)
class HiddenPatches:
    """Right answers with some patches hidden, and with as many patches of objects, where objects have as many.

    Attributes:
        rows: The questions whose picture has such patches; everything else is about these.
        without: 1 for every right answer with the patches hidden.
        behind: Share of the patches that is in the background.
        every_behind: Share of all patches that is.
        wide: The pictures whose objects have as many patches.
        objects: Right answers of those with as many random patches of objects hidden, once for each draw.
    """

    rows: Int[np.ndarray, " some"]
    without: Float[np.ndarray, " some"]
    behind: Float[np.ndarray, " some"]
    every_behind: Float[np.ndarray, " some"]
    wide: Bool[np.ndarray, " some"]
    objects: list[Float[np.ndarray, " few"]]


def hide_patches(
    model: TransformerBridge,
    asked: AskedPictures,
    patches: Bool[np.ndarray, "question patch"],
    *,
    draws: int,
    rng: np.random.Generator,
) -> HiddenPatches | None:
    """Answer without some patches, and without as many random patches of objects (`without_objects`): a control.

    Args:
        patches: The patches to hide, of each question's picture.
        draws: Of random patches of objects.

    Returns:
        Answers about the pictures that have such patches; None where no picture has any.

    Source:
        Kang et al. 2025, See What You Are Told: visual sinks are hidden.

    Example:
        >>> import workbench as wb
        >>> from workbench.heads.asked_pictures import ask_pictures
        >>> from workbench.tasks.scenes import World
        >>> model = wb.open_model("zoo:vlm")
        >>> asked = ask_pictures(model, World(), kinds=["colour"], n=2, seed=7)
        >>> first = np.arange(36)[None] == np.array([[0], [-1]])  # one patch of the first picture
        >>> hidden = hide_patches(model, asked, first, draws=3, rng=np.random.default_rng(0))
        >>> hidden.rows.tolist(), len(hidden.objects)
        ([0], 3)
    """
    rows = np.flatnonzero(patches.any(1))
    if not len(rows):
        return None
    some, hidden, background = asked.at(rows), patches[rows], asked.background[rows]
    many = hidden.sum(1)
    without, wide = answered_without(model, some, hidden), many <= (~background).sum(1)
    few = some.at(np.flatnonzero(wide)) if wide.any() else None
    return HiddenPatches(
        rows=rows,
        without=without,
        behind=share_among(hidden & background, hidden),
        every_behind=background.mean(1),
        wide=wide,
        objects=[] if few is None else without_objects(model, few, many[wide], draws=draws, rng=rng),
    )


def checked_span(span: Collection[int], n: int) -> list[int]:
    """Return the positions of a part of a prompt in order.

    Raises:
        OptionError: if it is not a part of ``n`` positions that leaves the last one.
    """
    part = sorted(set(span))
    if not part or part[0] < 0 or part[-1] >= n - 1:
        raise OptionError(
            f"span {list(span)} is not a part of positions 0 to {n - 2}; at least one of them is expected",
            hint="span=range(1, 3)",
        )
    return part


@contextmanager
def hidden_span(
    model: TransformerBridge, span: Collection[int], n: int, *, layers: Sequence[int] | None = None
) -> Iterator[None]:
    """Hide a span from all tokens outside it, in prompts of ``n`` tokens; the rest stays where it is.

    Yields:
        Nothing; the span is hidden inside.
    """
    inside = torch.zeros(n, dtype=torch.bool)
    inside[checked_span(span, n)] = True
    allowed = torch.ones(n, n, dtype=torch.bool)
    allowed[~inside] = ~inside
    if wiring(model).causal and not wiring(model).looks_ahead:
        allowed = allowed.tril()
    with hidden_keys(model, ~allowed, layers=layers):
        yield


@contextmanager
def replaced_span(
    model: TransformerBridge, span: Collection[int], stands_there: Float[Tensor, "pos d_model"]
) -> Iterator[None]:
    """Let the tokens of a span enter the first layer as something else.

    Args:
        stands_there: For every position of the prompt; those of the span are taken.

    Yields:
        Nothing; it stands there inside.
    """
    places = checked_span(span, len(stands_there))

    def replaced(x: Tensor, hook) -> Tensor:
        x = x.clone()
        x[:, places] = stands_there[places].to(x)
        return x

    with model.hooks(fwd_hooks=[(hook_name("resid", 0), replaced)]):
        yield
