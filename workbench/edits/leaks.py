"""What can reach what in a model as it runs: change what stands at one position, and see which outputs change."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.edits.edit import ModelEdit
from workbench.model.hooks import forward, hook_name
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def depends(
    model: TransformerBridge, prompt: Prompt, edit: ModelEdit | None = None, *, seed: int = 0
) -> Bool[Tensor, "query key"]:
    """Say which outputs change, to the last bit, when something else enters the first layer at one position.

    Where a mask lets nothing through, all of these are among what ``reach`` gives for as many such masks as there are
    layers. What arrives with too little weight to change a bit is not seen: give several prompts.

    Args:
        edit: Under which the model runs, such as a mask.
        seed: Of what is put there.

    Returns:
        True where the logits at a query differ for a prompt; everything depends on itself.
    """
    n, drawn = prompt.shape[1], torch.Generator().manual_seed(seed)

    def run(hooks: list) -> Tensor:
        with nullcontext() if edit is None else edit.on(model), model.hooks(fwd_hooks=hooks):
            return forward(model, prompt, last_only=False)

    plain, found = run([]), torch.zeros(n, n, dtype=torch.bool)
    for key in range(n):

        def other(x: Tensor, hook: Any, key: int = key) -> Tensor:
            x = x.clone()
            x[:, key] += torch.randn(x[:, key].shape, generator=drawn).to(x) * x.std()
            return x

        found[:, key] = (run([(hook_name("resid", 0), other)]) != plain).any(-1).any(0).cpu()
    return found
