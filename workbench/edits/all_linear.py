"""Adapters of every linear map of a language model, and of the rows of a few tokens; the model's own weights stay.

``y <- y + (x A) B`` for every linear map in every block, ``A`` at random and ``B`` zero in the beginning. Chosen tokens
get a change of what is read for them and of how they are scored, zero in the beginning. So the start is the model.

Source:
    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.core.errors import ModelError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class AllLinear(nn.Module):
    """Low-rank changes of every linear map in the blocks of a model, and changes of the rows of some tokens.

    Args:
        rank: Of each change.
        tokens: Those whose rows are changed, where words go in and where they come out.

    Raises:
        ModelError: if there are no linear maps in the blocks.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:vlm", device="cpu")
        >>> changes = AllLinear(model, rank=1, tokens=[5])
        >>> len(changes.down), tuple(changes.read.shape)
        (28, (1, 64))
    """

    tokens: Tensor

    def __init__(self, model: TransformerBridge, *, rank: int, tokens: Sequence[int] = ()) -> None:
        super().__init__()
        maps, first = linear_maps(model), next(iter(model.parameters()))
        self.down = nn.ParameterList([torch.randn(m.in_features, rank) / m.in_features**0.5 for m in maps])
        self.up = nn.ParameterList([torch.zeros(rank, m.out_features) for m in maps])
        self.read = nn.Parameter(torch.zeros(len(tokens), model.cfg.d_model))
        self.scored = nn.Parameter(torch.zeros(len(tokens), model.cfg.d_model))
        self.register_buffer("tokens", torch.tensor(list(tokens), dtype=torch.long), persistent=False)
        self.to(first)

    @contextmanager
    def on(self, model: TransformerBridge) -> Iterator[TransformerBridge]:
        """Inside, the model computes with these changes, and gradients reach the changes alone."""
        own = [weight for weight in model.parameters() if weight.requires_grad]
        hooks = [one.register_forward_hook(self._changed(i)) for i, one in enumerate(linear_maps(model))]
        hooks.append(model.embed.original_component.register_forward_hook(self._read))
        hooks.append(model.unembed.original_component.register_forward_hook(self._scored))
        for weight in own:
            weight.requires_grad_(False)
        try:
            yield model
        finally:
            for hook in hooks:
                hook.remove()
            for weight in own:
                weight.requires_grad_(True)

    def _changed(self, i: int) -> Any:
        return lambda module, x, y: y + (x[0] @ self.down[i]) @ self.up[i]

    def _read(self, module: nn.Module, ids: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + (ids[0][..., None] == self.tokens).to(y) @ self.read

    def _scored(self, module: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y.index_add(-1, self.tokens, x[0] @ self.scored.T)


def linear_maps(model: TransformerBridge) -> list[nn.Linear]:
    """List every linear map in the blocks of a model, in the order of its modules.

    Raises:
        ModelError: if there are none.
    """
    found = [one for one in model.blocks.modules() if isinstance(one, nn.Linear)]
    if not found:
        raise ModelError(
            "there are no linear maps in the blocks of this model", hint="take a model that has some: zoo:vlm"
        )
    return found
