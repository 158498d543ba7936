"""Vision-aware head reinforcement (He et al. 2025): heads that a picture moves most are made louder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.core.errors import ShapeError
from workbench.edits.place import Change, Place, Seen
from workbench.edits.reinforce import ALPHA, Choose, Reinforce
from workbench.heads.divergence import How, divergence, reinforced_heads
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def reinforce_of(
    model: TransformerBridge,
    prompt: Prompt,
    *,
    without: Sequence[int] | None = None,
    how: How = "remove",
    alpha: float = ALPHA,
    choose: Choose = "divergent",
    seed: int = 0,
) -> Reinforce:
    """Return ``Reinforce.of``."""
    found = divergence(model, prompt, without=without, how=how)
    return Reinforce(layers=found.layers, without=found.without, alpha=alpha, choose=choose, seed=seed)


def changes_of(edit: Reinforce, place: Place) -> Sequence[Change]:
    """Head outputs at the last position, layer by layer."""
    layers = place.heads(edit.addresses())
    return [
        Change(layer=layer, site="head-output", heads=layers[layer], fn=_louder(edit, i, layer))
        for i, layer in enumerate(edit.layers)
    ]


def _louder(edit: Reinforce, index: int, layer: int):
    def louder(z: Tensor, seen: Seen) -> Tensor:
        away, last = edit.without[:, index].to(z), z[:, -1]
        if away.shape != last.shape:
            raise ShapeError(
                f"the edit was made for {len(away)} prompts; {len(last)} are run",
                hint="Reinforce.of(model, prompt) for these prompts",
            )
        chosen = reinforced_heads((last - away).norm(dim=-1), away.square().sum(-1))
        if edit.choose == "random":
            drawn = torch.rand(
                chosen.shape, generator=torch.Generator().manual_seed(edit.seed * 1009 + layer)
            )
            rank = drawn.argsort(-1).argsort(-1).to(chosen.device)
            chosen = rank < chosen.sum(-1, keepdim=True)
        factor = torch.where(chosen, edit.alpha, 1.0).to(z)
        return torch.cat([z[:, :-1], (last * factor[..., None])[:, None]], dim=1)

    return louder
