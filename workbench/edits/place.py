"""Where an edit is to hold, a model and a run: addresses and names become indices; and what it changes there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.edits.edit import Positions, When, heads_among
from workbench.model.hooks import Wiring
from workbench.model.wiring import require_heads

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Seen = Mapping[str, Tensor]  # what this run showed so far: q, k, v of the layer; ids
At = Callable[
    [str], Int[Tensor, " row"]
]  # a position's name -> token index of each prompt; ``Batch.at`` is one


@dataclass(frozen=True, kw_only=True)
class Change:
    """One function of one activation of one layer.

    Attributes:
        site: ``pattern`` ``(row, head, query, key)`` or ``head-output`` ``(row, pos, head, d_head)``.
        heads: Heads whose part of the result is used; the others stay as they were.
        fn: From the tensor, and what was seen before it in this run, to the changed tensor.
        alone: ``fn`` takes and gives the part of its heads alone: nothing of the others' size is computed.
        reads: What ``fn`` must see: ``q``, ``k``, ``v``, ``scores`` of the same layer, ``resid`` that enters it,
            ``ids`` of the prompt.
        leaks: Rows of the pattern may sum to something else than before.
        forward: The change may let queries look ahead: the causal check is off.
        signed: Weights of the pattern may be negative.
    """

    layer: int
    site: Literal["pattern", "head-output"]
    heads: tuple[int, ...]
    fn: Callable[[Tensor, Seen], Tensor]
    alone: bool = False
    reads: tuple[str, ...] = ()
    leaks: bool = False
    forward: bool = False
    signed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A model and a run in which an edit is to hold: turns addresses and names into indices.

    Attributes:
        at: Where named positions are.
        decode_from: First query position that counts as decoding: the last token of the prompt.
    """

    model: TransformerBridge
    wiring: Wiring
    at: At | None = None
    decode_from: int | None = None

    def heads(self, addresses: Sequence[str]) -> dict[int, tuple[int, ...]]:
        """Layer -> heads; see ``heads_among``."""
        require_heads(self.wiring)
        return heads_among(addresses, self.wiring.attention_layers, self.wiring.n_heads)

    def rows(self, positions: Positions | None, when: When, like: Tensor) -> Bool[Tensor, "row pos"]:
        """Say which positions are meant: numbers (negative from the end) and names, from ``decode_from`` on if
        asked.

        Args:
            like: A tensor whose first axis is rows and whose second is positions.

        Raises:
            OptionError: for a position outside the prompt, a name without ``at``, decoding without its start.
        """
        n_row, n_pos = like.shape[:2]
        chosen = torch.full((n_row, n_pos), positions is None, dtype=torch.bool, device=like.device)
        for position in positions or ():
            index = self._index(position, n_row, n_pos, like.device)
            chosen[torch.arange(n_row, device=like.device), index] = True
        if when == "decode":
            if self.decode_from is None:
                raise OptionError(
                    "an edit of decoding needs to know where decoding starts",
                    hint="edit.on(model, decode_from=n_prompt_tokens - 1)",
                )
            chosen[:, : self.decode_from] = False
        return chosen

    def index(self, position: str | int, like: Tensor) -> Int[Tensor, " row"]:
        """Token index of one position in every row."""
        return self._index(position, like.shape[0], like.shape[1], like.device)

    def _index(
        self, position: str | int, n_row: int, n_pos: int, device: torch.device
    ) -> Int[Tensor, " row"]:
        if isinstance(position, str):
            if self.at is None:
                raise OptionError(
                    f"the edit names position {position!r}, and nothing says where that is",
                    hint="edit.on(model, at=batch.at)",
                )
            index = self.at(position).to(device)
            if index.shape != (n_row,):
                raise OptionError(
                    f"{position!r} is given for {len(index)} prompts; {n_row} are run",
                    hint="give one position for each prompt that is run",
                )
            return index
        if not -n_pos <= position < n_pos:
            raise OptionError(
                f"position {position} is outside prompts of {n_pos} tokens",
                hint=f"a number from {-n_pos} to {n_pos - 1}",
            )
        return torch.full((n_row,), position % n_pos, device=device)
