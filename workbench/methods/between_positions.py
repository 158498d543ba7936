"""What heads carry from one span of a prompt to another: the edges of PEAP that lie inside a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import unknown
from workbench.core.show import Told
from workbench.engine.gradients import pieces, taped_run
from workbench.engine.interventions.words import SpanKind
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.score_terms import HeadTerms, head_input, head_terms
from workbench.engine.sides import sides_of
from workbench.engine.spans import spans_of
from workbench.model.hooks import hook_name

SLOTS = ("q", "k", "v")
ByPosition = Float[Tensor, "pair query key"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BetweenPositions(Told):
    """Scores of what each head reads at one span and uses at another, for its query, key and value.

    Attributes:
        heads: Addresses.
        spans: Names; a key's span is read, a query's span is written to.
        values: ``(slot, head, query span, key span)``, mean over pairs, in the metric's unit; positive supports the
            behavior. Slots are query, key and value.
        sizes: The same with the size of each pair's sum, so that pairs do not cancel.
    """

    task: str
    n_pairs: int
    unit: str
    heads: tuple[str, ...]
    spans: tuple[str, ...]
    values: Float[np.ndarray, "slot head query key"]
    sizes: Float[np.ndarray, "slot head query key"]

    def of(self, slot: str, head: str) -> Float[np.ndarray, "query key"]:
        """Return the scores of one head's queries, keys or values, ``(query span, key span)``.

        Raises:
            WorkbenchError: for a slot or a head that is not there.
        """
        for name, known in ((slot, SLOTS), (head, self.heads)):
            if name not in known:
                raise unknown("part of a head" if known is SLOTS else "head", name, known)
        return self.values[SLOTS.index(slot), self.heads.index(head)]

    def rows(self, n: int = 12) -> list[dict[str, Any]]:
        """Return the strongest of them, one row each, strongest first."""
        order = np.argsort(-np.abs(self.values), axis=None, kind="stable")[:n]
        places = [np.unravel_index(i, self.values.shape) for i in order.tolist()]
        return [
            {
                "edge": f"{self.heads[h]}<{SLOTS[s]}>",
                "from": self.spans[k],
                "to": self.spans[q],
                "score": float(self.values[s, h, q, k]),
                "mean size": float(self.sizes[s, h, q, k]),
            }
            for s, h, q, k in places
        ]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [f"{self.task}, {self.n_pairs} pairs, {self.unit}", self.rows()]

    def __repr__(self) -> str:
        return f"<BetweenPositions {self.task}: {len(self.heads)} heads, {len(self.spans)} spans>"


@on_a_task
def between_positions(runs: PairedRuns, *, spans: SpanKind = "spans") -> BetweenPositions:
    """Estimate what each head's reading of one span adds to the metric at another.

    Of one value, ``attention * (clean - corrupted value) . gradient``. Of one key, or of one query for one key: that
    one attention score is replaced by the corrupted one, the softmax of the row taken again, and the change of the
    head's output multiplied with the gradient. Sums over the tokens of both spans.

    Args:
        spans: See `workbench.engine.spans.spans_of`.

    Returns:
        Scores in the metric's unit; positive supports the behavior.

    Raises:
        ModelError: if attention is no softmax of products of queries and keys.
        OptionError: if the metric has no gradient.

    Source:
        arXiv:2502.04577, crossing edges.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:truth-induction"), "induction", n=2)
        >>> wb.between_positions(runs).rows(1)[0]["edge"]
        'a1.h0<v>'
    """
    asked = spans_of(runs, spans)
    where = [(layer, head) for layer in runs.wiring.attention_layers for head in range(runs.wiring.n_heads)]
    shape = (len(SLOTS), len(where), len(asked.names), len(asked.names))
    total, sizes = np.zeros(shape), np.zeros(shape)
    taps = [hook_name("head-output", layer) for layer in runs.wiring.attention_layers]
    for whole in runs.batches:
        for batch in pieces(runs, whole):
            gradients = taped_run(runs, batch, taps).gradients()
            members = torch.nn.functional.one_hot(asked.of(batch), len(asked.names)).double()
            for h, (layer, head) in enumerate(where):
                grad = gradients[hook_name("head-output", layer)][:, :, head].double()
                for s, found in enumerate(of_head(runs, batch, layer, head, grad)):
                    by_span = torch.einsum("bqk,bqi,bkj->bij", found, members, members).cpu().numpy()
                    total[s, h] += by_span.sum(0)
                    sizes[s, h] += np.abs(by_span).sum(0)
            runs.release(batch)
    return BetweenPositions(
        task=runs.pairs.pairs.task,
        n_pairs=runs.n_pairs,
        unit=runs.metric.unit,
        heads=tuple(f"a{layer}.h{head}" for layer, head in where),
        spans=asked.names,
        values=total / runs.n_pairs,
        sizes=sizes / runs.n_pairs,
    )


@torch.no_grad()
def of_head(
    runs: PairedRuns, batch: Batch, layer: int, head: int, grad: Float[Tensor, "pair pos d_head"]
) -> tuple[ByPosition, ByPosition, ByPosition]:
    """Return the scores of one head's queries, keys and values by query and key position.

    Args:
        grad: Gradient of ``direction * metric`` at what the head reads from values, before its output matrix.
    """
    terms = head_terms(runs, batch, layer, head)
    values = head_input(runs, batch, sides_of(runs, runs.wiring.graph())[0], layer, head, "v")
    other = runs.resid(batch, "corrupted", layer)
    attention = terms.attention(terms.scores)
    carried = torch.einsum("bqe,bke->bqk", grad, values.live(terms.x))
    change = carried - torch.einsum("bqe,bke->bqk", grad, values.live(other))
    q, k = terms.q.live(terms.x), terms.k.live(terms.x)
    new_query = torch.einsum("bqe,bke->bqk", terms.q.live(other), k) * terms.scale
    new_key = torch.einsum("bqe,bke->bqk", q, terms.k.live(other)) * terms.scale
    return (
        of_one_score(terms, attention, carried, new_query),
        of_one_score(terms, attention, carried, new_key),
        attention * change,
    )


def of_one_score(terms: HeadTerms, attention: ByPosition, carried: ByPosition, new: ByPosition) -> ByPosition:
    """Return what each attention score adds, each replaced by itself: the drop of ``sum attention * carried``.

    With weight ``a`` and a score that moves by ``d`` the weight becomes ``a e^d / (1 - a + a e^d)``; the others share
    the rest as before.
    """
    moved = torch.where(terms.visible, terms.capped(new) - terms.capped(terms.scores), 0.0)
    odds = attention * moved.clamp(max=80.0).exp()
    rest = 1 - attention
    mean = (attention * carried).sum(-1, keepdim=True)
    share = torch.where(rest > 0, (odds - attention) / (rest + odds), 0.0)
    return torch.where(terms.visible, -share * (carried - mean), 0.0)
