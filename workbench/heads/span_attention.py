"""What the last token gives to every position of a part of the prompt, in every head; how even that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from workbench.core.errors import ModelError, OptionError
from workbench.heads.asked_pictures import picture_positions
from workbench.heads.grid_maps import map_entropy
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Span = Sequence[int] | None


@torch.no_grad()
def span_attention(
    model: TransformerBridge,
    prompt: Prompt,
    span: Span = None,
    *,
    queries: Sequence[int] = (-1,),
    rows: int = 128,
) -> Float[np.ndarray, "row layer head key"]:
    """Read the attention of the last token to a part of the prompt; by default to the patches of its picture.

    Args:
        span: Positions, in this order.
        queries: Whose attention it is, from the end where negative; of several the mean.
        rows: At most so many prompts in one pass.

    Returns:
        Shares of a row of the pattern, from 0 to 1; they sum to what the part gets.

    Raises:
        OptionError: for a part that is not in the prompt, or a model without a picture among its words.
        ModelError: if a layer shows no pattern.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:ioi")
        >>> given = span_attention(model, Prompt(model.to_tokens("Mary and John")), [0, 1, 2, 3])
        >>> given.shape, bool(np.allclose(given.sum(-1), 1))
        ((1, 4, 4, 4), True)
    """
    places, layers = positions_of(model, prompt, span), wiring(model).attention_layers
    names, found = [hook_name("pattern", layer) for layer in layers], []
    for part in prompt.split(rows):
        _, seen = record(model, part, names, last_only=True)
        if missing := [name for name in names if name not in seen]:
            raise ModelError(f"{missing[0]} shows nothing", hint="open the model with eager attention")
        A = torch.stack([seen[name][:, :, list(queries)].mean(2) for name in names], 1)
        found.append(A[..., places].double().cpu().numpy())
    return np.concatenate(found)


def attention_entropy(
    model: TransformerBridge, prompt: Prompt, span: Span = None, *, rows: int = 128
) -> Float[np.ndarray, "row layer head"]:
    """Say how evenly the last token's attention lies on a part of the prompt; by default on its picture.

    Weights on the part are made to sum to 1 first, so that how much it gets does not count.

    Returns:
        Nats: 0 where one position gets everything, ``ln n`` where n positions share alike; NaN where a head gives the
        part nothing.

    Source:
        Ge et al. 2025, Focusing by Contrastive Attention.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:ioi")
        >>> float(attention_entropy(model, Prompt(model.to_tokens("Mary and John")), [2]).max())
        0.0
    """
    given = span_attention(model, prompt, span, rows=rows)
    return np.asarray(map_entropy(given[..., None, :]))


def positions_of(model: TransformerBridge, prompt: Prompt, span: Span = None) -> list[int]:
    """Return a part of a prompt as positions from the start; by default those of its picture's patches.

    Raises:
        OptionError: for a part that is not in the prompt, or a model without a picture among its words.
    """
    sight, n = sight_of(model), prompt.shape[1]
    if span is None:
        if sight is None or sight.token is None:
            raise OptionError("the model has no picture among its words", hint="span=range(1, 5)")
        return list(picture_positions(prompt, sight))
    if not len(span) or min(span) < -n or max(span) >= n:
        raise OptionError(f"positions {list(span)} are not a part of {n} positions", hint="span=range(1, 5)")
    return [place % n for place in span]
