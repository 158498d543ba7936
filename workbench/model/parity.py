"""Does the bridge compute what the weights say? Its logits against the plain forward, on a fixed probe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.core.errors import ModelError
from workbench.model.hooks import call
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOLERANCE: dict[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,  # 5e-6 was the largest seen over all tested families
    torch.bfloat16: 1e-1,
    torch.float16: 2e-2,
}
"""Largest difference accepted, as a share of the largest absolute logit (at least 1)."""

_PROBE_SHAPE = (2, 12)


def probe_tokens(d_vocab: int, n_ctx: int, *, avoid: frozenset[int] = frozenset()) -> Int[Tensor, "pair pos"]:
    """Token ids spread over the vocabulary; the same on every machine.

    Example:
        >>> probe_tokens(4, 5, avoid=frozenset({1})).tolist()
        [[0, 3, 2, 0, 3], [2, 0, 3, 2, 0]]
    """
    pairs, length = _PROBE_SHAPE[0], max(1, min(_PROBE_SHAPE[1], n_ctx))
    avoided = sorted(token for token in avoid if 0 <= token < d_vocab)
    steps = torch.arange(pairs * length) * 7919  # a prime, so that neighbours differ
    tokens = steps % max(1, d_vocab - len(avoided))
    for token in avoided:
        tokens += tokens >= token
    return (tokens if d_vocab > len(avoided) else torch.zeros_like(tokens)).reshape(pairs, length)


@torch.no_grad()
def plain_output(
    model: nn.Module, prompt: Prompt | Int[Tensor, "pair pos"]
) -> Float[Tensor, "pair pos d_vocab"]:
    """Return logits of a Hugging Face model that is not wrapped; the last hidden state of one without a head.

    A model that gives one answer for a whole prompt is asked for that of every beginning of it.
    """
    prompt = Prompt.of(prompt).to(next(model.parameters()).device)
    tokens = prompt.ids
    if takes_no_words(model):
        output = model(**prompt.extras)
    else:
        output = model(tokens, **prompt.extras, use_cache=False) if not _answers_once(model) else None
    if output is None:
        beginnings = [[model(row[None, : n + 1]).logits[0] for n in range(len(row))] for row in tokens]
        return torch.stack([torch.stack(row) for row in beginnings])
    found = output.get("logits", output.get("last_hidden_state"))
    if found is None:
        raise ModelError(
            f"a {type(model).__name__} answers with {', '.join(output)}; logits or a last hidden state are expected",
            hint="open it as a class with one head: BertForMaskedLM.from_pretrained(directory), say",
        )
    return found


def takes_no_words(model: nn.Module) -> bool:
    """Say whether a Hugging Face model is given pixels alone."""
    return getattr(model, "main_input_name", "input_ids") == "pixel_values" and not hasattr(model, "lm_head")


def _answers_once(model: nn.Module) -> bool:
    return type(model).__name__.endswith("ForSequenceClassification")


@torch.no_grad()
def difference(
    bridge: TransformerBridge,
    prompt: Prompt | Int[Tensor, "pair pos"],
    plain: Float[Tensor, "pair pos d_vocab"],
) -> float:
    """Largest absolute difference between the bridge's output and the plain one, in logits."""
    found = call(bridge, Prompt.of(prompt).to(plain.device))
    if found.shape != plain.shape:
        raise ModelError(
            f"the bridge gives {tuple(found.shape)}, the plain forward {tuple(plain.shape)}",
            hint="docs/families.md lists the architectures that are computed rightly",
        )
    return (found.double() - plain.double()).abs().max().item()


def require_parity(found: float, plain: Tensor, *, name: str, tolerance: float | None) -> None:
    """Refuse a bridge that does not follow its weights.

    Raises:
        ModelError: above `tolerance` logits, or above `TOLERANCE` for the dtype when that is None.
    """
    if tolerance == math.inf:
        return
    if tolerance is None:
        tolerance = TOLERANCE.get(plain.dtype, 1e-1) * max(1.0, plain.abs().max().item())
    if not found <= tolerance:  # written so that NaN is refused
        raise ModelError(
            f"the bridge of {name} differs from the plain forward of the same weights by {found:.2g} logits; "
            f"at most {tolerance:.2g} is accepted",
            hint="this architecture is not computed correctly; parity_tolerance= opens it all the same",
        )
