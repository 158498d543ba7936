"""Which patches matter for detail and which for the whole, by where a tower's class token looks in two layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.tower_patterns import tower_patterns

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.heads.asked_pictures import AskedPictures


@dataclass(frozen=True, kw_only=True, eq=False)
class DualStream:
    """Patches of each picture, in two kinds that share none.

    Attributes:
        local: What the class token looks at in the first layer (and, where asked, what patches look at there).
        summary: What stands out in the layer before the last.
    """

    local: Bool[Tensor, "picture patch"]
    summary: Bool[Tensor, "picture patch"]

    def counts(self) -> dict[str, float]:
        """Return how many patches of a picture are of each kind, mean over the pictures."""
        kinds = {"patches for detail": self.local, "patches for the whole": self.summary}
        return {name: float(kind.sum(-1).double().mean()) for name, kind in kinds.items()}

    def drawn(self, seed: int) -> DualStream:
        """Return as many random patches of each kind for every picture: the control."""
        rank = (
            torch.rand(self.local.shape, generator=torch.Generator().manual_seed(seed))
            .argsort(-1)
            .argsort(-1)
        )
        first = self.local.sum(-1, keepdim=True)
        both = first + self.summary.sum(-1, keepdim=True)
        return DualStream(local=rank < first, summary=(rank >= first) & (rank < both))


def dual_stream(
    patterns: Float[Tensor, "picture layer head query key"], *, local: float = 0.25, spatial: float = 0.0
) -> DualStream:
    """Choose patches by the attention of the class token in the first layer and in the layer before the last.

    Local patches are the top share by the first layer's class token, heads added up, and where asked a further share
    by what patches get from patches there. Summary patches are those whose attention from the class token exceeds
    ``Q3 + 1.5 (Q3 - Q1)`` of the picture's patches. A patch that is both is a summary patch.

    The authors' code adds up over keys what a patch gives, which is nearly the same for every patch. What it *gets* is
    taken here.

    Args:
        patterns: Of a tower whose position 0 is a class token.
        local, spatial: Shares of all patches.

    Returns:
        Truth values for every patch, row by row.

    Raises:
        ShapeError: if there are fewer than two layers, or no patch behind the class token.
        OptionError: for a share that is not from 0 to 1.

    Source:
        Arif et al. 2025, Fixing Imbalanced Attention.

    Example:
        >>> first = torch.tensor([0.0, 0.4, 0.3, 0.2, 0.1]).expand(1, 1, 1, 5, 5)
        >>> later = torch.tensor([0.0, 0.1, 0.1, 0.1, 0.7]).expand(1, 1, 1, 5, 5)
        >>> found = dual_stream(torch.cat([first, later, first], 1), local=0.5)
        >>> found.local.int().tolist(), found.summary.int().tolist()
        ([[1, 1, 0, 0]], [[0, 0, 0, 1]])
    """
    if patterns.shape[1] < 2 or patterns.shape[-1] < 2:
        raise ShapeError(
            f"patterns are {tuple(patterns.shape)}; at least two layers, and a class token beside the "
            "patches, are expected",
            hint="give patterns of all layers of a tower with a class token, as read_patterns gives them",
        )
    if not (0 <= local <= 1 and 0 <= spatial <= 1):
        raise OptionError(
            f"local is {local}, spatial {spatial}; shares from 0 to 1 are expected",
            hint="local=0.25, spatial=0.0",
        )
    first, late = (patterns[:, layer].sum(1) for layer in (0, -2))
    own, given = first[:, 0, 1:], first[:, 1:, 1:].sum(1)
    stands_out = late[:, 0, 1:]
    low, high = stands_out.quantile(torch.tensor([0.25, 0.75]).to(stands_out), dim=-1, keepdim=True)
    summary = stands_out > high + 1.5 * (high - low)
    chosen = _top(own, local) | _top(given, spatial)
    return DualStream(local=chosen & ~summary, summary=summary)


def patches_of_asked(
    tower: TransformerBridge, asked: AskedPictures, *, local: float = 0.25, spatial: float = 0.0
) -> DualStream:
    """Choose patches of the pictures that are asked about, by what a tower does on them.

    Args:
        tower: A model whose tower has a class token and the patches of the model that is asked.
        local, spatial: As ``dual_stream`` has them.

    Raises:
        ModelError: if the tower has another grid.
    """
    patterns = tower_patterns(tower, [scene.pixels for scene in asked.scenes])
    if patterns.shape[-1] != 1 + len(asked.image):
        raise ModelError(
            f"the tower has {patterns.shape[-1]} positions; a class token and {len(asked.image)} patches are expected",
            hint="--set tower=own",
        )
    return dual_stream(patterns, local=local, spatial=spatial)


def _top(values: Float[Tensor, "picture patch"], share: float) -> Bool[Tensor, "picture patch"]:
    rank = values.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return rank < round(share * values.shape[-1])
