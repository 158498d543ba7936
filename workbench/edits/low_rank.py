"""Low-rank fine-tuning of query and value projections, as what localised edits are compared with.

``q <- q + (x A_q) B_q`` and ``v <- v + (x A_v) B_v`` in every layer, ``x`` what attention reads after its norm; ``A``
starts at random and ``B`` at zero, so the start is the model itself.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ModelError, ShapeError
from workbench.edits.lofit import LofitStep, train_edit
from workbench.edits.questions import Questions
from workbench.model.hooks import hook_name, norm_before
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SLOTS = ("q", "v")


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank:
    """The changes of all layers as one vector of numbers: layer by layer ``A_q``, ``B_q``, ``A_v``, ``B_v``."""

    numbers: Float[Tensor, " number"]
    rank: int

    @contextmanager
    def on(self, model: TransformerBridge) -> Iterator[TransformerBridge]:
        """Inside, the model computes with these changes.

        Raises:
            ModelError: if queries or values of this model are not projections of a norm of the residual stream.
            ShapeError: if there are not as many numbers as the model takes.
        """
        known = wiring(model)
        if not {"q", "v"} <= known.live or not known.readers_known:
            raise ModelError(
                "queries and values of this model are not norm-then-project, or cannot be edited",
                hint="take a model with live q and v hooks: zoo:icl; workbench model show NAME says",
            )
        if len(self.numbers) != count(model, rank=self.rank):
            raise ShapeError(
                f"{len(self.numbers)} numbers; expected {count(model, rank=self.rank)}",
                hint=f"start from torch.zeros({count(model, rank=self.rank)})",
            )
        parts = iter(
            self.numbers.split([n for layer in range(known.n_layers) for n in _sizes(model, self.rank)])
        )
        hooks = [hook for layer in range(known.n_layers) for hook in self._layer(model, layer, parts)]
        with model.hooks(fwd_hooks=hooks):
            yield model

    def _layer(self, model: TransformerBridge, layer: int, parts: Iterator[Tensor]) -> list:
        norm, seen = norm_before(model, layer, "ln1"), {}

        def keep(x: Tensor, hook) -> None:
            seen["x"] = norm(x)

        def change(down: Tensor, up: Tensor):
            return lambda t, hook: t + ((seen["x"] @ down) @ up).view_as(t)

        hooks = [(hook_name("resid", layer), keep)]
        for slot in SLOTS:
            down, up = next(parts).view(-1, self.rank), next(parts).view(self.rank, -1)
            hooks.append((hook_name(slot, layer), change(down, up)))
        return hooks


def _sizes(model: TransformerBridge, rank: int) -> list[int]:
    """Numbers of ``A_q``, ``B_q``, ``A_v``, ``B_v`` of one layer."""
    known = wiring(model)
    return [
        rank * n for heads in (known.n_heads, known.n_kv_heads) for n in (known.d_model, heads * known.d_head)
    ]


def count(model: TransformerBridge, *, rank: int) -> int:
    """Trained numbers."""
    return wiring(model).n_layers * sum(_sizes(model, rank))


def train_low_rank(
    model: TransformerBridge,
    training: Questions,
    *,
    rank: int = 1,
    validation: Questions | None = None,
    options: LofitStep,
    seed: int = 0,
) -> LowRank:
    """Train the changes on questions, the model's own weights frozen; with validation questions the best are kept."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for _ in range(wiring(model).n_layers):
        for i, size in enumerate(_sizes(model, rank)):
            drawn = torch.randn(size, generator=generator) / model.cfg.d_model**0.5
            parts.append(drawn if i % 2 == 0 else torch.zeros(size))
    found = train_edit(
        model,
        training,
        value=torch.cat(parts).to(next(model.parameters())),
        edit=lambda numbers: LowRank(numbers=numbers, rank=rank),
        options=options,
        validation=validation,
        seed=seed,
    )
    return LowRank(numbers=found, rank=rank)
