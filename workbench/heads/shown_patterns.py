"""Patterns of every head on given prompts, small enough to put into a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from workbench.core.errors import OptionError, TaskError
from workbench.heads.grounds import LENGTH, SHORTEST, frame_of, random_ground, text_ground
from workbench.heads.observe import patterns_of
from workbench.model.architecture import describe
from workbench.model.pattern_rows import looked, sink_share
from workbench.model.reading import require_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST_BYTES = 12 << 20  # of patterns in one page; base64 adds a third
EXAMPLE = 40  # tokens of an example from a text


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptPatterns:
    """What every head looks at on one prompt.

    Attributes:
        tokens: The prompt's tokens as text.
        layers: Layers that show a pattern, in the order of ``weights``.
        weights: Where each query looks, times 255, rounded: its attention divided by what the row sums to; 0 in a row
            that sums to 0.
        sinks: The share of each query's attention that goes to no key, times 255, rounded; None where rows sum to 1.
        note: What must be said of the prompt: tokens that the tokenizer does not know.
    """

    title: str
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    weights: UInt8[np.ndarray, "layer head query key"]
    sinks: UInt8[np.ndarray, "layer head query"] | None = None
    note: str = ""


def prompt_patterns(model: TransformerBridge, prompts: Sequence[str]) -> tuple[PromptPatterns, ...]:
    """Return the patterns on these texts.

    Raises:
        TaskError: if the model has no tokenizer, or a prompt has no tokens, more than the context, or one that the
            model has no embedding for.
        OptionError: if the patterns are too many for one page.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        raise TaskError(
            "the model has no tokenizer, so a prompt cannot become tokens",
            hint="leave out the prompts (--prompt), or open the model with tokenizer=",
        )
    before, after = frame_of(model)
    found, notes, context = [], [], describe(model).n_ctx
    for i, prompt in enumerate(prompts, start=1):
        inner = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        ids = [*before, *inner, *after]
        if not inner:
            raise TaskError(
                f"prompt {i} has no tokens", hint="give a prompt that is not empty: --prompt 'The cat sat'"
            )
        if context and len(ids) > context:
            raise TaskError(
                f"prompt {i} has {len(ids)} tokens; the model reads at most {context}",
                hint=f"shorten it to {context} tokens",
            )
        require_tokens(model, ids, f"prompt {i}")
        unknown = inner.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
        said = f"{unknown} of its {len(inner)} tokens are unknown to the tokenizer" if unknown else ""
        found.append((f"prompt {i}", ids))
        notes.append(said)
    return tuple(
        replace(p, title=f"{p.title} ({said})", note=f"{p.title}: {said}") if said else p
        for p, said in zip(_seen(model, found), notes, strict=True)
    )


def example_patterns(model: TransformerBridge, *, seed: int = 0) -> tuple[PromptPatterns, ...]:
    """Return the patterns on a few random tokens, twice, and where the tokenizer covers it on a piece of the
    built-in text.
    """
    before, after = frame_of(model)
    context = describe(model).n_ctx
    length = max(SHORTEST, min(len(before) + len(after) + 16, context or LENGTH))
    random, _ = random_ground(model, n=2, length=length, seed=seed)
    found = [(f"{random.period} random tokens, twice", random.sequences[0].tolist())]
    text, _ = text_ground(model, None, n=2, length=None, seed=seed)
    if text is not None:
        longest = max(text.sequences, key=len).tolist()
        kept = longest[: EXAMPLE - len(after)] + after if len(longest) > EXAMPLE else longest
        found.append((f"{len(kept)} tokens of the built-in text", kept))
    return _seen(model, found)


def _seen(
    model: TransformerBridge, prompts: Sequence[tuple[str, Sequence[int]]]
) -> tuple[PromptPatterns, ...]:
    device, found = next(iter(model.parameters())).device, []
    heads = model.cfg.n_layers * model.cfg.n_heads
    total = sum(heads * len(ids) ** 2 for _, ids in prompts)
    if total > MOST_BYTES:
        raise OptionError(
            f"the patterns of these prompts are {total >> 20} MB, the most in one page is {MOST_BYTES >> 20}",
            hint="fewer or shorter prompts",
        )
    for title, ids in prompts:
        seen = patterns_of(model, torch.tensor([list(ids)], device=device))
        layers = tuple(seen.patterns)
        stacked = torch.stack([seen.patterns[n][0] for n in layers])
        sinks = sink_share(stacked)[..., 0]
        found.append(
            PromptPatterns(
                title=title,
                tokens=tuple(_text(model, i) for i in ids),
                layers=layers,
                weights=_bytes(looked(stacked).nan_to_num()),
                sinks=_bytes(sinks) if bool((sinks > 0).any()) else None,
            )
        )
    return tuple(found)


def pattern_bytes(
    model: TransformerBridge, ids: Sequence[int]
) -> tuple[tuple[int, ...], UInt8[np.ndarray, "layer head query key"]]:
    """Return the layers that show a pattern on these tokens, and where each query looks, times 255, rounded.

    Raises:
        OptionError: if the patterns are too many for one page.
        ModelError: if no layer shows a pattern.
    """
    [seen] = _seen(model, [("prompt", ids)])
    return seen.layers, seen.weights


def _bytes(shares: Tensor) -> UInt8[np.ndarray, "..."]:
    return (shares.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _text(model: TransformerBridge, token: int) -> str:
    tokenizer = getattr(model, "tokenizer", None)
    return str(token) if tokenizer is None or not len(tokenizer) else tokenizer.decode([token])
