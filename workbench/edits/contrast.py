"""Two runs side by side: what differs between them, part by part, and an edit that moves one towards the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.core.errors import ModelError, ShapeError
from workbench.edits.affine import Affine
from workbench.edits.edit import Positions
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Tokens = Int[Tensor, "row pos"]
Aligned = tuple[Int[Tensor, " aligned"], Int[Tensor, " aligned"]]
Site = str  # of workbench.model.hooks.SITES


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """Activations of two runs at the positions that correspond.

    ``difference`` is first minus second, in activation units; a run with itself has 0 everywhere.
    """

    model: TransformerBridge
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    tokens: Tokens
    aligned: Aligned

    def pair(self, site: Site, layer: int) -> tuple[Tensor, Tensor]:
        """Return both runs' tensors at a site, ``(row, pos, ...)``; patterns ``(row, head, query, key)``."""
        name = hook_name(site, layer)
        if name not in self.first:
            raise ModelError(
                f"{site} of layer {layer} was not recorded",
                hint=f"record it: contrast(..., sites=({site!r},), layers=({layer},))",
            )
        return self._at(site, self.first[name], 0), self._at(site, self.second[name], 1)

    def _at(self, site: Site, tensor: Tensor, which: int) -> Tensor:
        where = self.aligned[which]
        return tensor[:, :, where][..., where] if site == "pattern" else tensor[:, where]

    def difference(self, site: Site, layer: int) -> Tensor:
        """Return first minus second."""
        first, second = self.pair(site, layer)
        return first - second

    def ratio(self, site: Site, layer: int, *, least: float = 1e-9) -> Tensor:
        """Return first over second; NaN where the second is smaller than ``least``."""
        first, second = self.pair(site, layer)
        return torch.where(second.abs() >= least, first / second, torch.nan)

    def norm(self, site: Site, layer: int) -> Float[Tensor, "row pos"] | Float[Tensor, "row pos head"]:
        """Return the length of the difference's vectors; of a pattern's rows, ``(row, head, query)``."""
        return self.difference(site, layer).norm(dim=-1)

    def relative(self, site: Site, layer: int) -> Tensor:
        """Return the length of the difference over the length of the second run's vectors (VHD divides so, Li et
        al. 2025).
        """
        _, second = self.pair(site, layer)
        return self.norm(site, layer) / second.norm(dim=-1).clamp(min=1e-9)

    def effect(self, site: Site, layer: int, metric: Callable[[Tensor], Float[Tensor, " row"]]) -> Tensor:
        """Return the gradient of the metric in the first run times the difference: what the first run owes to it,
        first order.

        Args:
            metric: From logits to one value per row.

        Returns:
            As ``difference``, without the last axis: summed over it, in the metric's unit.
        """
        grad = gradient(self.model, self.tokens, hook_name(site, layer), metric)
        return (self._at(site, grad, 0) * self.difference(site, layer)).sum(-1)

    def push(
        self, heads: Sequence[str], *, strength: float = 1.0, positions: Positions | None = None
    ) -> Affine:
        """Return an edit that adds ``strength`` times the mean difference of the heads' outputs: a steering vector."""
        nodes = [parse_node(head) for head in heads]
        means = [self.difference("head-output", int(n.layer or 0))[:, :, n.index].mean((0, 1)) for n in nodes]
        return Affine.of(self.model, heads, b=strength * torch.stack(means), positions=positions)


def contrast(
    model: TransformerBridge,
    first: Tokens,
    second: Int[Tensor, "row second_pos"],
    *,
    sites: Sequence[Site] = ("head-output",),
    layers: Sequence[int] | None = None,
    aligned: Aligned | None = None,
) -> Contrast:
    """Run both and keep what was seen.

    Args:
        aligned: Positions of the first and of the second run that correspond; by default all, which needs equal length.

    Raises:
        ShapeError: if the runs do not line up.
        ModelError: for a site that this model does not show.
    """
    if len(first) != len(second):
        raise ShapeError(
            f"{len(first)} and {len(second)} prompts; they are compared one by one",
            hint="give both sides the same prompts, one by one",
        )
    if aligned is None:
        if first.shape != second.shape:
            raise ShapeError(
                f"prompts of {first.shape[1]} and {second.shape[1]} tokens do not line up by themselves",
                hint="aligned=(positions of the first, positions of the second)",
            )
        every = torch.arange(first.shape[1], device=first.device)
        aligned = (every, every)
    if len(aligned[0]) != len(aligned[1]):
        raise ShapeError(
            f"{len(aligned[0])} positions are to correspond to {len(aligned[1])}",
            hint="give each position of the first prompts one of the second",
        )
    wanted = wiring(model).attention_layers if layers is None else layers
    names = [hook_name(site, layer) for site in sites for layer in wanted]
    seen = [record(model, ids, names)[1] for ids in (first, second)]
    silent = [name for name in names if name not in seen[0]]
    if silent:
        raise ModelError(
            f"hook {silent[0]} never fires on this model; nothing can be read there",
            hint="leave this site or layer out: sites=, layers=; workbench model show NAME says what works",
        )
    return Contrast(model=model, first=seen[0], second=seen[1], tokens=first, aligned=aligned)


def gradient(
    model: TransformerBridge, ids: Tokens, name: str, metric: Callable[[Tensor], Float[Tensor, " row"]]
) -> Tensor:
    """Return the gradient of the summed metric at one hook; parameters get none and keep their flags.

    Raises:
        ModelError: if no gradient reaches the hook.
    """
    kept: list[Tensor] = []

    def keep(tensor: Tensor, hook) -> Tensor:
        leaf = tensor.detach().clone().requires_grad_(True)
        kept.append(leaf)
        return leaf * 1.0

    with torch.enable_grad(), model.hooks(fwd_hooks=[(name, keep)]):
        total = metric(model(ids)).sum()
        if not kept:
            raise ModelError(
                f"hook {name} never fires on this model",
                hint="workbench model show NAME says which hooks work on this model",
            )
        (found,) = torch.autograd.grad(total, kept, allow_unused=True)
    if found is None:
        raise ModelError(
            f"no gradient reaches {name}: edits there are discarded on this model",
            hint="workbench model show NAME says which edits work on this model",
        )
    return found
