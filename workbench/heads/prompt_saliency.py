"""What a question changes in the picture: representations of patches with it and without it (VisFocus)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from workbench.core.errors import ShapeError
from workbench.heads.asked_pictures import AskedPictures, Under, prompt_of
from workbench.heads.localisation import Localisation, lift_apart, locate
from workbench.heads.span_attention import Span, positions_of, span_attention
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.tasks.scenes.questions import DESCRIBE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Maps = Float[np.ndarray, "question layer row column"]


@torch.no_grad()
def prompt_conditioned_saliency(
    model: TransformerBridge,
    prompt: Prompt,
    without: Prompt,
    span: Span = None,
    *,
    rows: int = 128,
    under: Under | None = None,
) -> Float[np.ndarray, "row layer key"]:
    """Measure how much a question changes what stands at every position of a part, by default at the picture's patches.

    ``|x - x'| / |x'|``, where ``x`` leaves a layer with the question and ``x'`` with another one in its place.

    Args:
        without: The same prompts with other words, such as a general instruction, in the place of the question.
        span: Positions, in this order.
        rows: Prompts of one pass.
        under: What a pass is in, such as an edit by which patches see the question.

    Returns:
        At least 0; exactly 0 where nothing of the question can reach the position.

    Raises:
        ShapeError: if the two are not of one shape.

    Source:
        VisFocus, 2024; the abstract alone was read.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:ioi")
        >>> one, two = (Prompt(model.to_tokens(text)) for text in ("Mary and John", "Mary and Mary"))
        >>> [bool(change > 0) for change in prompt_conditioned_saliency(model, one, two, [2, 3])[0, -1]]
        [False, True]
    """
    if prompt.shape != without.shape:
        raise ShapeError(
            f"prompts of {tuple(prompt.shape)} are compared with {tuple(without.shape)}",
            hint="give both the same number of rows and tokens",
        )
    places = positions_of(model, prompt, span)
    names = [f"blocks.{layer}.hook_out" for layer in wiring(model).attention_layers]
    found = []
    for start in range(0, len(prompt), rows):
        at = slice(start, start + rows)
        with nullcontext() if under is None else under(at):
            (_, with_it), (_, without_it) = (record(model, one[at], names) for one in (prompt, without))
        changes = [
            (with_it[name] - without_it[name])[:, places].norm(dim=-1)
            / without_it[name][:, places].norm(dim=-1)
            for name in names
        ]
        found.append(torch.stack(changes, 1))
    return torch.cat(found).double().cpu().numpy()


def question_maps(model: TransformerBridge, asked: AskedPictures, *, under: Under, shift: int = 0) -> Maps:
    """Return what each question changes in the patches of its picture, against a general instruction.

    Args:
        under: What passes are in: a mask through which patches see the words behind them.
        shift: Pictures get the question of the one so many places before: the control.
    """
    texts = [question.text for question in asked.questions]
    texts = [*texts[-shift:], *texts[:-shift]] if shift else texts
    pixels = [scene.pixels for scene in asked.scenes]
    prompt, general = prompt_of(model, asked.sight, texts, pixels), asked.asking(model, DESCRIBE)
    found = prompt_conditioned_saliency(model, prompt, general, asked.image, under=under)
    return found.reshape(*found.shape[:2], *asked.grid)


def last_looks(model: TransformerBridge, asked: AskedPictures, *, under: Under) -> Maps:
    """Return where the last token looks in each picture, mean over the heads of every layer."""
    with under(slice(None)):
        given = span_attention(model, asked.prompt).mean(2)
    return given.reshape(*given.shape[:2], *asked.grid)


def best_layer(maps: Maps, asked: AskedPictures) -> int:
    """Return the layer whose maps prefer the asked object to the others most."""
    return int(np.argmax([lift_apart(maps[:, n], asked.own, asked.others) for n in range(maps.shape[1])]))


def lies_at(maps: Maps, asked: AskedPictures, layer: int) -> Localisation:
    """Say where the maps of one layer lie; a map that is empty counts as an even one."""
    return locate(maps[:, layer] + 1e-12, asked.own, asked.others)
