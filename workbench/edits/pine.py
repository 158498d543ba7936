"""PINE: attention that does not know the order of documents (Wang et al. 2024, arXiv:2407.01100).

Between documents attention is bidirectional, and every query sees the documents in an order of its own: the more
important to it, the closer. Importance is attention without positions, averaged over a document's tokens, so nothing
that is computed depends on the order in which the documents were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError
from workbench.edits.kinds import Between, Pine
from workbench.edits.place import Change, Place, Seen
from workbench.edits.rotary import Rotary, own_positions, rotary_of
from workbench.edits.visible import visible
from workbench.model.probe import probe_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Importances this close, relative to the largest, are a tie and the documents' own tokens decide: float32 runs on
# permuted documents differ by 1e-7, and heads that attend evenly make exact ties.
TIE = 1e-5


def changes_of(edit: Pine, place: Place) -> Sequence[Change]:
    """Return every pattern of the model."""
    if not place.wiring.causal:
        raise ModelError(
            "this model is not causal: every document sees every other already",
            hint="open a causal model: zoo:induction",
        )
    heads = tuple(range(place.wiring.n_heads))
    return [
        Change(
            layer=layer,
            site="pattern",
            heads=heads,
            fn=_attention(edit, place, layer, rotary_of(place.model, layer)),
            reads=("q", "k", "ids"),
            forward=True,
        )
        for layer in place.wiring.attention_layers
    ]


def _attention(edit: Pine, place: Place, layer: int, rotary: Rotary):
    def reordered(pattern: Tensor, seen: Seen) -> Tensor:
        q, k = seen["q"], seen["k"]
        k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
        _confirm(place, layer, rotary, q, k, pattern)
        layout = PineLayout.of(edit.documents, q.shape[1], q.device)
        start = _starts(edit, layout, rotary, q, k, content_ranks(seen["ids"], edit.documents), layer)
        scores = rotary.scores(q, k, layout.ahead(start))
        hidden = ~layout.visible(edit.between)
        return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1)

    return reordered


def _starts(
    edit: Pine, layout: PineLayout, rotary: Rotary, q: Tensor, k: Tensor, ranks: Tensor, layer: int
) -> Int[Tensor, "row head query document"]:
    """Where each document starts, as each query has them placed."""
    n_row, n_pos, n_head = q.shape[:3]
    n = len(edit.documents)
    if edit.order == "given":
        return layout.given().expand(n_row, n_head, n_pos, n)
    if edit.order == "random":
        generator = torch.Generator().manual_seed(edit.seed * 1009 + layer)
        drawn = torch.rand(n_head, n_pos, n, generator=generator).to(q.device)
        drawn = layout.shared(drawn[None]).expand(n_row, -1, -1, -1)
        return layout.starts(drawn, torch.zeros_like(ranks), reverse=False)
    return layout.starts(importance(layout, rotary, q, k), ranks, reverse=edit.order == "reversed")


@dataclass(frozen=True, kw_only=True, eq=False)
class PineLayout:
    """Which document each token is in (-1 for none) and where in it."""

    document: Int[Tensor, " pos"]
    offset: Int[Tensor, " pos"]
    lengths: Int[Tensor, " document"]
    first: int

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int]], n_pos: int, device: torch.device) -> PineLayout:
        """Raises ``OptionError`` if a document ends after the prompt."""
        if spans[-1][1] > n_pos:
            raise OptionError(
                f"the last document ends at token {spans[-1][1]}; the prompt has {n_pos}",
                hint=f"documents that end at {n_pos} or before",
            )
        document = torch.full((n_pos,), -1, device=device)
        offset = torch.zeros(n_pos, dtype=torch.long, device=device)
        for j, (start, end) in enumerate(spans):
            document[start:end] = j
            offset[start:end] = torch.arange(end - start, device=device)
        lengths = torch.tensor([end - start for start, end in spans], device=device)
        return cls(document=document, offset=offset, lengths=lengths, first=spans[0][0])

    def given(self) -> Int[Tensor, " document"]:
        """Return starts in the order given."""
        return self.first + self.lengths.cumsum(0) - self.lengths

    def shared(self, values: Tensor) -> Tensor:
        """Summed over the queries of a document, which have one order; queries after the documents have their own."""
        out = values.clone()
        for i in range(len(self.lengths)):
            out[:, :, self.document == i] = values[:, :, self.document == i].sum(2, keepdim=True)
        return out

    def starts(
        self,
        important: Float[Tensor, "row head query document"],
        ranks: Int[Tensor, "row document"],
        *,
        reverse: bool,
    ) -> Int[Tensor, "row head query document"]:
        """Least important first, its own document last; ties go by content."""
        order = placed(
            important if not reverse else -important, ranks
        )  # (row, head, query, place) -> document
        own = self.document[:, None] == torch.arange(len(self.lengths), device=order.device)
        place = order.argsort(-1)  # document -> place
        # its own document moves behind all others; those behind it move one place forward
        own_place = (place * own).sum(-1, keepdim=True)
        inside = own.any(-1, keepdim=True)
        place = torch.where(inside & (place > own_place), place - 1, place)
        place = torch.where(own, len(self.lengths) - 1, place)
        order = place.argsort(-1)
        lengths = self.lengths[order]
        before = lengths.cumsum(-1) - lengths
        return self.first + before.gather(-1, place)

    def ahead(self, start: Int[Tensor, "row head query document"]) -> Int[Tensor, "row head query key"]:
        """Say by how much each query stands after each key."""
        n_pos = len(self.document)
        at = torch.arange(n_pos, device=start.device)
        inside = self.document >= 0
        key = start[..., self.document.clamp(min=0)] + self.offset
        key = torch.where(inside, key, at)
        query = key.diagonal(dim1=-2, dim2=-1)  # a query stands where its own key does
        return query[..., None] - key

    def visible(self, between: Between) -> Tensor:
        """Prefix, own document and suffix causally; other documents as a whole."""
        at = torch.arange(len(self.document), device=self.document.device)
        mask = at <= at[:, None]
        if between == "all":
            d = self.document
            mask = mask | ((d[:, None] >= 0) & (d >= 0) & (d[:, None] != d))
        return mask


def importance(
    layout: PineLayout, rotary: Rotary, q: Tensor, k: Tensor
) -> Float[Tensor, "row head query document"]:
    """Return attention without positions over the documents, mean over each one's tokens; in float64.

    A query in a document leaves its own out, and has the sum over the document's queries.
    """
    scores = torch.einsum("bqhe,bkhe->bhqk", q.double(), k.double()) * rotary.scale
    d, n = layout.document, len(layout.lengths)
    out = (d < 0) | (
        (d == d[:, None]) & (d[:, None] >= 0)
    )  # keys outside the documents, and the own document
    weights = scores.masked_fill(out, -torch.inf)
    alone = torch.isneginf(weights).all(-1, keepdim=True)  # one document: nothing to compare
    weights = torch.where(alone, torch.zeros_like(weights), weights.masked_fill(alone, 0).softmax(-1))
    member = torch.nn.functional.one_hot(d.clamp(min=0), n).double() * (d >= 0)[:, None]
    return layout.shared(weights @ member / layout.lengths)


def placed(
    important: Float[Tensor, "*batch document"], ranks: Int[Tensor, "row document"]
) -> Int[Tensor, "*batch document"]:
    """Return documents from the least to the most important; those closer than ``TIE`` go by the rank of their
    content.
    """
    ranks = ranks.view(len(ranks), *(1,) * (important.ndim - 2), -1).expand_as(important)
    rough = important.argsort(dim=-1, stable=True)
    ordered = important.gather(-1, rough)
    gap = ordered.diff(dim=-1, prepend=ordered[..., :1])
    step = (gap > TIE * important.abs().amax(-1, keepdim=True)).cumsum(-1)
    level = torch.empty_like(step).scatter_(-1, rough, step)
    return (level * (important.shape[-1] + 1) + ranks).argsort(dim=-1, stable=True)


def content_ranks(
    ids: Int[Tensor, "row pos"], documents: Sequence[tuple[int, int]]
) -> Int[Tensor, "row document"]:
    """Return the rank of each document among the row's, by its tokens; equal documents share a rank."""
    found = []
    for row in ids.tolist():
        texts = [tuple(row[start:end]) for start, end in documents]
        order = {text: rank for rank, text in enumerate(sorted(set(texts)))}
        found.append([order[text] for text in texts])
    return torch.tensor(found, device=ids.device)


def _confirm(place: Place, layer: int, rotary: Rotary, q: Tensor, k: Tensor, pattern: Tensor) -> None:
    """Compare what these queries and keys give at their own positions with the model's pattern.

    Raises:
        ModelError: if they differ: another rotation, norms of queries and keys, soft caps, sliding windows.
    """
    n = q.shape[1]
    at = torch.arange(n, device=q.device)
    seen = visible(place, layer, n, q.device)
    if bool((seen != (at <= at[:, None])).any()):
        raise ModelError(
            f"layer {layer}: documents reach beyond its sliding window, so their order cannot be undone",
            hint="make the documents shorter than the window, or leave this layer out",
        )
    scores = own_positions(rotary, q, k).masked_fill(~seen, torch.finfo(q.dtype).min)
    error = float((scores.softmax(-1) - pattern).abs().max())
    if not error <= 1e-3:  # float32 rounding is below 1e-5 here
        raise ModelError(
            f"layer {layer}: rotary attention made again from queries and keys differs from the model's by "
            f"{error:.2g}",
            hint="take a model with plain rotary attention: zoo:kv",
        )


@torch.no_grad()
def moved_alone(model: TransformerBridge) -> tuple[float, float]:
    """Largest difference of a logit that PINE makes: over a single document, and over the same tokens as two."""
    ids = probe_tokens(model)
    plain, end = model(ids), ids.shape[1] - 1

    def moved_by(documents: tuple[tuple[int, int], ...]) -> float:
        with Pine(documents=documents).on(model):
            return float((model(ids) - plain).abs().max())

    return moved_by(((1, end),)), moved_by(((1, end // 2), (end // 2, end)))
