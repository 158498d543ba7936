"""A CLIP or SigLIP in plain transformers, one picture with its captions as a batch of rows, hooks on one of its towers.

Captions are rows here, and blocks of one row in the workbench: nothing of how it packs them is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tests.integration.plain_tower import PlainTower
from workbench.model.towers.parts import stacks


class PlainCaptions(PlainTower):
    """One tower of a model that compares pictures with captions.

    Args:
        answer: What is read of how alike a picture and its captions are, one number for each.
    """

    def __init__(
        self, model: nn.Module, stack: str, answer: Callable[[Tensor], Tensor], n_heads: int
    ) -> None:
        self.whole, self.ids = model, torch.zeros(0)
        super().__init__(self.compare, lambda out: answer(out.logits_per_image[0]), n_heads)
        [self.layers] = [list(layers) for name, layers in stacks(model) if stack in name]

    def beside(self, captions: Sequence[Sequence[int]]) -> PlainCaptions:
        """The same with other captions, all of one length."""
        self.ids = torch.tensor(captions)
        return self

    def compare(self, pixel_values: Tensor):
        return self.whole(input_ids=self.ids, pixel_values=pixel_values)
