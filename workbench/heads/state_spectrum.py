"""The transitions of any model, in one table: of the state of a recurrent model, or of softmax heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench.heads.transitions import READ, softmax_transitions, spectrum_row, transition_spectrum
from workbench.model.hooks import hook_name
from workbench.model.sight import require_texts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def spectrum_of(
    model: TransformerBridge, *, texts: int, tokens: int, seed: int = 0
) -> tuple[str, dict[str, dict[str, float]]]:
    """Return what is read, in words, and the spectrum of every layer (of softmax: every head), by name.

    Of a softmax head it is what each key leaves of the running mean of the last query, from its pattern.
    """
    require_texts(model, "a transition between positions")
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.cfg.d_vocab, (texts, tokens), generator=drawn)
    kind = getattr(getattr(model.original_model, "config", None), "model_type", "")
    if kind in READ:
        found = transition_spectrum(model, ids)
        return f"the state of {kind}", {f"layer {i}": spectrum_row(each) for i, each in found.items()}
    names = {i: hook_name("pattern", i) for i in range(model.cfg.n_layers)}
    _, seen = model.run_with_cache(ids, names_filter=list(names.values()))
    rows = {}
    for layer, name in names.items():
        if name in seen:
            left = softmax_transitions(seen[name][:, :, -1].log())  # (text, head, key)
            for head in range(left.shape[1]):
                rows[f"a{layer}.h{head}"] = spectrum_row(left[:, head, 1:])  # the first key leaves nothing
    return "running means of softmax heads, last query", rows
