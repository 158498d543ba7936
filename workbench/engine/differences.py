"""Reference minus what sources write in the run at hand: kept as the pass goes on, summed up for what targets read.

Only sources that some mask touches are kept, and sources below the first layer that is run once for all copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.graph import Graph

Outputs = Float[Tensor, "pair pos source d_model"]
Masks = Bool[Tensor, "copy *label source target"] | Float[Tensor, "copy *label source target"]


@dataclass(eq=False, repr=False, kw_only=True)
class Differences:
    """The differences at all tokens of a batch, or at the last token of each pair.

    Args:
        masks: ``(label, copy, source, target)``; one label where tokens are not labelled.
        reference: What each source is replaced by.
        base: What the first ``n_early`` sources write, the same in all copies.
        labels: Which mask each token has.
    """

    graph: Graph
    masks: Bool[Tensor, "label copy source target"] | Float[Tensor, "label copy source target"]
    reference: Outputs
    base: Float[Tensor, "pair pos early d_model"] | None
    n_early: int
    labels: Int[Tensor, "pair pos"] | None

    def __post_init__(self) -> None:
        self.live = self._touched()
        self.used = np.flatnonzero(self.live.any(1))
        self._order, self._back, self._spans = _by_label(self.labels, self.reference.shape[:2].numel())
        self._early: Tensor | None = None  # (source, token, D), for all copies
        self._late: list[tuple[int, Tensor]] = []  # first column, (source, copy, token, D)
        self._buffer: Tensor | None = None  # the same in one piece, where nothing is differentiated
        early = self.used[self.used < self.n_early]
        if self.base is not None and len(early):
            self._early = self._tokens(self.reference, early) - self._tokens(self.base, early)

    def _touched(self) -> np.ndarray:
        """``(source, target)``: edges that some copy ablates at some position, or whose gradient is asked for."""
        if self.masks.requires_grad:
            return self.graph.edge_mask
        some = (self.masks != 0).flatten(0, 1).any(0).cpu().numpy()
        return some & self.graph.edge_mask

    def _tokens(self, outputs: Outputs, rows: np.ndarray) -> Float[Tensor, "row token d_model"]:
        """These sources, tokens of one label side by side."""
        found = outputs[:, :, torch.as_tensor(rows, device=outputs.device)].permute(2, 0, 1, 3).flatten(1, 2)
        return found if self._order is None else found[:, self._order]

    def store(self, rows: np.ndarray, current: Float[Tensor, "copy token source d_model"]) -> None:
        """Keep the difference to the reference of these sources."""
        own = current.permute(2, 0, 1, 3)  # (source, copy, token, D)
        own = own if self._order is None else own[:, :, self._order]
        delta = self._tokens(self.reference, rows)[:, None]
        first = int(np.searchsorted(self.used, rows[0])) - int((self.used < self.n_early).sum())
        if torch.is_grad_enabled():
            self._late.append((first, delta - own))
            return
        if self._buffer is None:
            late = int((self.used >= self.n_early).sum())
            self._buffer = own.new_empty(late, *own.shape[1:])
        torch.sub(delta, own, out=self._buffer[first : first + len(rows)])

    def at_last(self) -> Differences:
        """Return the same at the last token of each pair, with what has been kept so far."""
        labels = None if self.labels is None else self.labels[:, -1:]
        base = None if self.base is None else self.base[:, -1:]
        found = replace(self, reference=self.reference[:, -1:], base=base, labels=labels)
        pairs, length = self.reference.shape[:2]
        at = torch.arange(1, pairs + 1, device=self.reference.device) * length - 1
        at = at if self._back is None else self._back[at][found._order]
        found._late = [(first, delta[:, :, at]) for first, delta in self._late]
        found._buffer = None if self._buffer is None else self._buffer[:, :, at]
        return found

    def change_at(
        self, targets: Sequence[int]
    ) -> tuple[np.ndarray, Float[Tensor, "copy target token d_model"]] | None:
        """Say which of these targets have ablated edges, and what changes at them."""
        some = self.live[:, targets].any(0)
        if not some.any():
            return None
        columns = np.asarray(targets)[some]
        rows = self.used[: np.searchsorted(self.used, self.graph.n_visible[columns[0]])]
        parts = [self._change(label, rows, columns, span) for label, span in self._spans]
        change = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        return np.flatnonzero(some), change if self._back is None else change[:, :, self._back]

    def _change(self, label: int, rows: np.ndarray, columns: np.ndarray, span: slice) -> Tensor:
        """The ablated summands of these sources at these targets, added up, for the tokens of one label."""
        masks = self.masks[label][:, _index(rows)][:, :, _index(columns)].to(self.reference.dtype)
        masks = masks.transpose(1, 2)  # (copy, target, source)
        early = int((rows < self.n_early).sum())
        copies, width = self.masks.shape[1], self.reference.shape[-1]
        total: Tensor | None = None
        if self._early is not None and early:
            delta = self._early[:early, span].flatten(1)  # (source, token * D)
            total = (masks[:, :, :early].flatten(0, 1) @ delta).unflatten(0, (copies, -1))
        for first, delta in self._seen(len(rows) - early):
            part = delta[:, :, span].flatten(2).transpose(0, 1)  # (copy, source, token * D)
            mask = masks[:, :, early + first : early + first + len(delta)]
            total = mask @ part if total is None else torch.baddbmm(total, mask, part)
        assert total is not None, "some source is ablated"
        return total.unflatten(2, (-1, width))

    def _seen(self, n: int) -> list[tuple[int, Tensor]]:
        """The first ``n`` differences of this run."""
        if self._buffer is not None:
            return [(0, self._buffer[:n])] if n else []
        return [(first, delta) for first, delta in self._late if first < n]


def _index(rows: np.ndarray) -> slice | np.ndarray:
    """A slice where rows follow each other, so that nothing is copied."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) == rows[-1] - rows[0] + 1 else rows


def _by_label(
    labels: Int[Tensor, "pair pos"] | None, n_tokens: int
) -> tuple[Tensor | None, Tensor | None, list[tuple[int, slice]]]:
    """Tokens in the order of their labels, the way back, and where the tokens of each label are."""
    if labels is None:
        return None, None, [(0, slice(0, n_tokens))]
    order = labels.flatten().argsort(stable=True)
    ends = labels.flatten().bincount().cumsum(0).tolist()
    spans = [
        (label, slice(a, b)) for label, (a, b) in enumerate(zip([0, *ends], ends, strict=False)) if b > a
    ]
    return order, order.argsort(), spans
