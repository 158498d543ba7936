"""Dynamic mask attention: which keys are looked at is learned from their values, a fixed number for every query."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.masks.chosen_keys import top_keys
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
