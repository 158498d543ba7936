"""Attention calibration (Yu et al. 2024, arXiv:2406.15765): attention taken from sinks beyond the first, on the fly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.edits.kinds import ALPHA, BETA, Calibration, Keep
from workbench.edits.place import Change, Place, Seen
from workbench.engine.interventions.surgery import scale_keys
from workbench.model.pattern_rows import row_sums


def sink_scores(pattern: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch key"]:
    """Mean attention that each key gets from the queries that can see it, itself included.

    Of what those queries give to keys: a learned sink's share is left out of it.
    """
    n = pattern.shape[-1]
    seen_by = n - torch.arange(n, device=pattern.device)
    shares = pattern / row_sums(pattern).to(pattern.dtype).clamp(min=torch.finfo(pattern.dtype).tiny)
    return shares.tril().sum(-2) / seen_by


def find_sinks(
    pattern: Float[Tensor, "*batch query key"], *, alpha: float = ALPHA
) -> Bool[Tensor, "*batch key"]:
    """Return keys whose mean attention exceeds ``alpha / N``: ``alpha`` times what an even share of N tokens would
    be.

    The paper's rule; its released code has a fixed 0.1, which is the same at N = 50 and ``alpha`` = 5 only.
    """
    return sink_scores(pattern) > alpha / pattern.shape[-1]


def later_sinks(sinks: Bool[Tensor, "*batch key"], *, keep: Keep = "first") -> Bool[Tensor, "*batch key"]:
    """Without the one that is kept: the first that was found (as the released code does), or the initial token."""
    if keep == "initial":
        found = sinks.clone()
        found[..., 0] = False
        return found
    return sinks & (sinks.cumsum(-1) > 1)


def calibrate(
    pattern: Float[Tensor, "*batch query key"], columns: Bool[Tensor, "*batch key"], *, beta: float = BETA
) -> Float[Tensor, "*batch query key"]:
    """Multiply these columns by ``beta``; what that frees goes to all other columns in proportion, row by row.

    The kept sink is among those that receive. The first row sees one key and stays.
    """
    return scale_keys(pattern, columns[..., None, :], beta)


def other_columns(
    sinks: Bool[Tensor, "*batch key"], columns: Bool[Tensor, "*batch key"], *, seed: int
) -> Bool[Tensor, "*batch key"]:
    """As many columns that are no sinks, at random, for every one that would be calibrated; never the first."""
    drawn = torch.rand(sinks.shape, generator=torch.Generator().manual_seed(seed)).to(sinks.device)
    drawn = drawn.masked_fill(sinks, -1.0)
    drawn[..., 0] = -1.0
    rank = drawn.argsort(-1, descending=True).argsort(-1)
    return (rank < columns.sum(-1, keepdim=True)) & (drawn >= 0)


def changes_of(edit: Calibration, place: Place) -> Sequence[Change]:
    """Return the patterns of the heads, once their sinks are known."""
    return [
        Change(layer=layer, site="pattern", heads=heads, fn=calibrating(edit, layer))
        for layer, heads in place.heads(edit.heads).items()
    ]


def calibrating(edit: Calibration, layer: int) -> Callable[[Tensor, Seen | None], Tensor]:
    """Return what the edit makes of the patterns of its heads in one layer."""

    def calibrated(pattern: Tensor, seen: Seen | None = None) -> Tensor:
        sinks = find_sinks(pattern.detach(), alpha=edit.alpha)
        columns = later_sinks(sinks, keep=edit.keep)
        if edit.columns == "others":
            columns = other_columns(sinks, columns, seed=edit.seed * 1009 + layer)
        return calibrate(pattern, columns, beta=edit.beta)

    return calibrated
