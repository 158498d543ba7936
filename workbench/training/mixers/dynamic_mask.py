"""Dynamic mask attention: which keys are looked at is learned from their values, a fixed number for every query."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.masks.chosen_keys import top_keys
from workbench.training.mixers.lab import Lab, LabBlock
from workbench.training.mixers.plugs import Content, Scores, Visible, Width


class DynamicMask(nn.Module):
    """Softmax over the ``keys`` visible keys of most importance, which is also added to their scores.

    ``importance = a_h softplus(V w_h)``; the choice itself has no gradient, it reaches ``a`` and ``w`` through the
    scores. With no more than ``keys`` visible keys nothing is masked.

    Source:
        Shi et al. 2025 (Trainable Dynamic Mask Sparse Attention), without its blocks.
    """

    def __init__(self, width: Width, *, keys: int) -> None:
        super().__init__()
        if keys < 1:
            raise OptionError(f"a budget of {keys} keys; at least 1 is needed", hint="keys=8")
        self.keys, self.scale = keys, nn.Parameter(torch.zeros(width.n_heads))
        self.read = nn.Linear(width.n_heads * width.d_head, width.n_heads, bias=False)

    def importance(self, content: Content) -> Float[Tensor, "batch head key"]:
        """Return how much each key matters in each head, whoever asks."""
        read = F.softplus(self.read(content.v.flatten(2))).transpose(1, 2)
        return self.scale[:, None] * read

    def forward(self, scores: Scores, allowed: Visible, content: Content) -> Scores:
        """Return the pattern over the chosen keys."""
        importance = self.importance(content)
        chosen = top_keys(importance.detach(), allowed[0, 0], self.keys)
        return (scores + importance[:, :, None]).masked_fill(~chosen, -torch.inf).softmax(-1)


@torch.no_grad()
def change_with_room(model: Lab, ids: Int[np.ndarray, "row pos"]) -> float:
    """Return the largest change of a pattern between a mask with room for all keys and no mask at all.

    Args:
        model: Of the lab, whose layers mix by a `DynamicMask`; it is left as it was.

    Returns:
        A weight, 0 or more; 0 where the mask is an identity.
    """
    rows, worst = torch.from_numpy(ids).long(), 0.0
    for block in model.blocks:
        mix = cast(DynamicMask, cast(LabBlock, block).attn.mix)
        before, mix.keys = mix.keys, rows.shape[1]
        contents: list[tuple[Scores, Visible, Content]] = []
        handle = mix.register_forward_pre_hook(lambda module, given, kept=contents: kept.append(given))
        try:
            model(rows)
            handle.remove()
            for scores, allowed, content in contents:
                whole = (scores + mix.importance(content)[:, :, None]).masked_fill(~allowed, -torch.inf)
                worst = max(worst, float((mix(scores, allowed, content) - whole.softmax(-1)).abs().max()))
        finally:
            handle.remove()
            mix.keys = before
    return worst
