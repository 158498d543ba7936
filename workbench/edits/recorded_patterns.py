"""Patterns that stand in for others, recorded on a model before the edit holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.edits.substitute import PER_PROMPT, RECORDED
from workbench.heads.observe import patterns_of
from workbench.model.hooks import hook_name
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt
from workbench.model.wiring import require_heads

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Patterns = dict[str, Float[Tensor, "row head query key"]]  # by layer: ``a0``
Ids = Prompt | Int[Tensor, "row pos"]
ROWS = 32  # texts in one pass


def record_for(
    model: TransformerBridge,
    pattern: str,
    *,
    prompt: Ids | None = None,
    reference: Sequence[Ids] = (),
    seed: int = 0,
) -> Patterns:
    """Return what a pattern needs to have recorded; nothing for those that are computed in the run.

    Raises:
        OptionError: if it needs a prompt or a reference that was not given.
    """
    if pattern not in RECORDED:
        return {}
    if pattern in PER_PROMPT:
        if prompt is None:
            raise OptionError(f"pattern {pattern} belongs to a prompt, and none was given", hint="prompt=ids")
        return own_patterns(model, prompt) if pattern == "own" else embedding_patterns(model, prompt)
    if not reference:
        raise OptionError(f"pattern {pattern} is of other texts, and none was given", hint="reference=[ids]")
    return (
        mean_patterns(model, reference) if pattern == "mean" else text_patterns(model, reference, seed=seed)
    )


def own_patterns(model: TransformerBridge, prompt: Ids) -> Patterns:
    """Return every layer's pattern on these prompts, as the model makes it.

    Raises:
        ModelError: for a layer that shows none, with the reason.
    """
    wired = wiring(model)
    require_heads(wired)
    seen = patterns_of(model, prompt)
    return {f"a{layer}": seen.of(layer) for layer in wired.attention_layers}


def embedding_patterns(model: TransformerBridge, prompt: Ids) -> Patterns:
    """Return the patterns of queries and keys from the embeddings alone: every layer reads what the first one reads.

    Norms, projections and positions are the layer's own; what earlier layers wrote is not read (Xue et al. 2025,
    StaticEmbQK).
    """
    kept: list[Tensor] = []

    def first(x: Tensor, hook: object) -> None:
        kept[:] = [x]

    def later(x: Tensor, hook: object) -> Tensor:
        return kept[0]

    names = [hook_name("resid", layer) for layer in range(wiring(model).n_layers)]
    with model.hooks(fwd_hooks=[(names[0], first), *((name, later) for name in names[1:])]):
        return own_patterns(model, prompt)


def mean_patterns(model: TransformerBridge, reference: Sequence[Ids]) -> Patterns:
    """Return the mean pattern at each position, over all texts that reach it; rows sum to 1 where the texts' do.

    Raises:
        OptionError: for texts of several lengths where the model has no causal mask.
    """
    texts = [Prompt.of(one) for one in reference]
    longest = max(text.shape[1] for text in texts)
    if not wiring(model).causal and any(text.shape[1] != longest for text in texts):
        raise OptionError(
            "texts of several lengths have no mean pattern where queries look ahead",
            hint="give texts of one length",
        )
    sums: Patterns = {}
    counts = torch.zeros(longest)
    for text in texts:
        n = text.shape[1]
        counts[:n] += len(text)
        for part in (text[slice(i, i + ROWS)] for i in range(0, len(text), ROWS)):
            for layer, found in own_patterns(model, part).items():
                whole = sums.setdefault(layer, found.new_zeros(1, found.shape[1], longest, longest))
                whole[:, :, :n, :n] += found.sum(0, keepdim=True)
    return {layer: whole / counts.to(whole)[:, None] for layer, whole in sums.items()}


def text_patterns(model: TransformerBridge, reference: Sequence[Ids], *, seed: int = 0) -> Patterns:
    """Return the patterns of one text: of the longest, drawn by the seed where several are as long."""
    texts = [Prompt.of(one) for one in reference]
    longest = max(text.shape[1] for text in texts)
    rows = [text[slice(i, i + 1)] for text in texts if text.shape[1] == longest for i in range(len(text))]
    drawn = torch.randint(len(rows), (1,), generator=torch.Generator().manual_seed(seed))
    return own_patterns(model, rows[int(drawn)])
