"""Attention calibration (Yu et al. 2024, arXiv:2406.15765): attention taken from sinks beyond the first, on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.edits.edit import Change, ModelEdit, Place, Seen, of_kinds
from workbench.errors import OptionError
from workbench.interventions.surgery import scale_keys

Columns = Literal["sinks", "others"]
Keep = Literal["first", "initial"]
ALPHA, BETA = 5.0, 0.4


def sink_scores(pattern: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch key"]:
    """Mean attention that each key gets from the queries that can see it, itself included."""
    n = pattern.shape[-1]
    seen_by = n - torch.arange(n, device=pattern.device)
    return pattern.tril().sum(-2) / seen_by


def find_sinks(
    pattern: Float[Tensor, "*batch query key"], *, alpha: float = ALPHA
) -> Bool[Tensor, "*batch key"]:
    """Keys whose mean attention exceeds ``alpha / N``: ``alpha`` times what an even share of N tokens would be.

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


@dataclass(frozen=True, kw_only=True)
class Calibration(ModelEdit):
    """Find the sinks of each prompt in each head, and take attention from all but the first of them.

    Args:
        heads: Those whose sinks harm; ``select_heads`` of the replication finds them.
        alpha: A sink has more than ``alpha / N`` of the attention of the queries that can see it.
        beta: What is left of a sink's weight; 1 changes nothing.
        keep: Which sink stays: the first one found, or the initial token alone.
        columns: ``others`` takes from as many columns that are no sinks: a control.
        seed: Of these columns.
    """

    kind: ClassVar[str] = "calibration"
    heads: tuple[str, ...]
    alpha: float = ALPHA
    beta: float = BETA
    keep: Keep = "first"
    columns: Columns = "sinks"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.heads:
            raise OptionError("the edit has no heads", hint="heads=('a5.h3',), or ('a5',) for a layer")
        if not self.alpha > 0 or not 0 <= self.beta <= 1:
            raise OptionError(f"alpha {self.alpha}, beta {self.beta}: above 0, and from 0 to 1")
        for name, known in (("keep", Keep), ("columns", Columns)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(f"{name} is {getattr(self, name)!r}; one of {', '.join(get_args(known))}")

    def changes(self, place: Place) -> Sequence[Change]:
        return [
            Change(layer=layer, site="pattern", heads=heads, fn=self._calibrate(layer))
            for layer, heads in place.heads(self.heads).items()
        ]

    def _calibrate(self, layer: int):
        def edit(pattern: Tensor, seen: Seen) -> Tensor:
            sinks = find_sinks(pattern.detach(), alpha=self.alpha)
            columns = later_sinks(sinks, keep=self.keep)
            if self.columns == "others":
                columns = other_columns(sinks, columns, seed=self.seed * 1009 + layer)
            return calibrate(pattern, columns, beta=self.beta)

        return edit

    def describe(self) -> str:
        what = "later sinks" if self.columns == "sinks" else "as many other columns"
        return f"{what} of {', '.join(self.heads)} scaled by {self.beta:g} (alpha {self.alpha:g})"

    def to_dict(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        of_kinds(data, heads=str, alpha=(int, float), beta=(int, float), seed=int)
        if not isinstance(data.get("heads"), list):
            raise OptionError(f"heads is {data.get('heads')!r:.40}; expected a list of names")
        return cls(**{**data, "heads": tuple(data["heads"])})
