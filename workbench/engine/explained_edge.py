"""Why an edge does what it does: who writes what an attention score is made of, on the query and on the key side.

The edge ``u -> a9.h9<q>`` acts at some query ``p``; the head attends from there to some key ``s``. Its score is a sum
of terms, one for each pair of writers (``workbench/engine/score_terms.py``). The reason of the edge is the row of
``u``: what its part of the query meets on the key side.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.reason import Ranking, Read, Reason
from workbench.core.errors import OptionError
from workbench.engine.asked_edge import AskedEdge, asked_edge, place_names
from workbench.engine.carried_values import carried_reason
from workbench.engine.gradients import writer_gradients
from workbench.engine.neuron_terms import mlp_reason
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.patterns import pattern_gradient
from workbench.engine.score_terms import HeadTerms, Place, head_terms
from workbench.engine.sides import sides_of
from workbench.engine.source_outputs import outputs_of_side

UNIT = "attention score"
NOTHING = 1e-9  # of the largest metric: a score below is rounding


def why(runs: PairedRuns, edge: str, *, at: str | int | None = None) -> Reason:
    """Say why an edge does what it does: which writers make the score that it acts on, or whose values are carried.

    Args:
        edge: ``a5.h5->a9.h9<q>``, ``<k>`` or ``<v>``, ``a5.h5->m6``, or ``a9.h9->logits``.
        at: The position at which the edge acts: the query of an edge into q, the key of one into k; a name or a number.
            By default, for each pair, the position where the edge's score is largest.

    Returns:
        Rankings of terms that sum to the attention score of one key, less the mean score of the other keys, weighted
        by the attention that they get once the source's part is taken away; means over pairs. A positive term raises
        the attention to the key. Norms are frozen; how exact the sums are is said in ``errors``. For an edge into v,
        and of a head to the logits: from which positions values are carried, whose they are, in the metric's unit. For
        an edge into an MLP: which hidden units it moves and at which positions, in the metric's unit, and who else
        writes what the first of them reads.

    Raises:
        OptionError: for an edge that the model's graph does not have, or whose reader is no head and no MLP.
        ModelError: if the head's scores are no products of queries and keys.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:truth-induction"), "induction", n=4, corruption="match")
        >>> reason = wb.why(runs, "a0.h1->a1.h0<k>")
        >>> reason.rankings[1].rows(1)[0]["term"]
        'input'
    """
    asked = asked_edge(runs, edge)
    runs.settle()
    if asked.read in ("v", "logits"):
        return carried_reason(runs, asked, at=at)
    if asked.read == "mlp":
        return mlp_reason(runs, asked, at=at)
    with torch.no_grad():
        seen = [_of_batch(runs, batch, asked, at) for batch in runs.batches]
    return _reason(runs, asked, seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What was found on one batch; every tensor has the pairs of ``index`` as its first axis."""

    index: np.ndarray
    names: dict[str, tuple[str, ...]]
    terms: Float[Tensor, "pair query_writer key_writer"]
    query: Place
    key: Place
    tokens: list[tuple[str, str]]
    attention: dict[str, Float[Tensor, " pair"]]
    centred: Float[Tensor, " pair"]
    split: dict[str, Float[Tensor, " pair"]]
    errors: dict[str, float]


def _of_batch(runs: PairedRuns, batch: Batch, asked: AskedEdge, at: str | int | None) -> _Seen:
    """Everything about one edge on one batch."""
    terms = head_terms(runs, batch, asked.layer, asked.head)
    acts = _Acting.of(runs, batch, terms, asked)
    query, key = _places(runs, batch, terms, acts, asked, at)
    (q_names, q), (k_names, k) = terms.sides("q"), terms.sides("k")
    rows, names = torch.arange(len(batch), device=q.device), place_names(runs, batch)
    part = terms.part_of(asked.read, q if asked.read == "q" else k, acts.writer)
    against = terms.over_rivals(k, query, key, terms.scores - part)
    made = torch.einsum("bue,bwe->buw", q[rows, query], against) * terms.scale
    row = part[rows, query]
    centred = row[rows, key] - (terms.pattern[rows, query] * row).sum(-1)
    return _Seen(
        index=batch.index,
        names={"q": q_names, "k": k_names},
        terms=made,
        query=query,
        key=key,
        tokens=[
            (named[q], named[k]) for named, q, k in zip(names, query.tolist(), key.tolist(), strict=True)
        ],
        attention={
            "as it is": terms.pattern[rows, query, key],
            "frozen": terms.attention(terms.scores - part)[rows, query, key],
            "live": _without_source(terms, acts.writer, asked.read)[rows, query, key],
        },
        centred=centred,
        split={"linear": acts.linear.sum(1), "whole": acts.whole.sum(1)},
        errors=terms.errors,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Acting:
    """Where an edge acts: its score at each position, with the norm's scale held constant and with the norm as it is.

    Attributes:
        writer: Index of the edge's source among the terms.
        linear, whole: ``(pair, pos)``: first-order change of ``direction * metric`` when the source's corrupted output
            becomes the clean one, in what this input reads at each position.
        reach: Gradient at the scores, ``direction * metric`` per unit of score.
    """

    writer: int
    linear: Float[Tensor, "pair pos"]
    whole: Float[Tensor, "pair pos"]
    reach: Float[Tensor, "pair query key"]

    @classmethod
    def of(cls, runs: PairedRuns, batch: Batch, terms: HeadTerms, asked: AskedEdge) -> _Acting:
        grads = writer_gradients(runs, batch, [(asked.layer, "head-output")])[asked.layer, "head-output"]
        pattern = pattern_gradient(runs, batch, asked.layer, grads)[:, asked.head]
        reach = terms.score_gradient(pattern)
        own, other = (terms.q, terms.k) if asked.read == "q" else (terms.k, terms.q)
        other_vectors = other.live(terms.x)
        along = reach if asked.read == "q" else reach.transpose(1, 2)
        gradient = torch.einsum("bps,bse->bpe", along, other_vectors) * terms.scale
        side = sides_of(runs, runs.wiring.graph())[0]
        writer = terms.writers.index(asked.source)
        there = outputs_of_side(runs, batch, "corrupted", side, before=asked.layer)[:, :, writer]
        change = terms.written[:, :, writer] - there  # (pair, pos, d_model)
        linear = (own.parts(change[:, :, None], terms.x)[:, :, 0] * gradient).sum(-1)
        with torch.enable_grad():
            x = terms.x.detach().clone().requires_grad_(True)
            (back,) = torch.autograd.grad((own.live(x) * gradient).sum(), x)
        return cls(writer=writer, linear=linear, whole=(back * change).double().sum(-1), reach=reach)


def _places(
    runs: PairedRuns, batch: Batch, terms: HeadTerms, acts: _Acting, asked: AskedEdge, at: str | int | None
) -> tuple[Place, Place]:
    """The query and the key that are looked at, one for each pair."""
    if at is not None:
        own = batch.at(at)
    else:
        size = acts.whole.abs()
        least = NOTHING * float(np.abs(runs.clean).max())
        if not bool((largest := size.amax(1)).min() > least):
            raise OptionError(
                f"{asked.edge} has no score on {int((largest <= least).sum())} of {len(batch)} pairs of "
                f"{batch.n_tokens} tokens (largest {float(largest.max()):.2g} {runs.metric.unit}): both prompts write "
                "the same there, or the attention is saturated",
                hint="say where to look: --at end, or at='end' in Python; or take another --corruption",
            )
        own = size.argmax(1)
    rows = torch.arange(len(own), device=own.device)
    if asked.read == "q":
        return own, terms.pattern[rows, own].argmax(-1)
    # the query at which this key counts most for the metric, else the one that attends to it most
    counts = acts.reach[rows, :, own].abs()
    best = torch.where((counts.amax(1) > 0), counts.argmax(1), terms.pattern[rows, :, own].argmax(1))
    return best, own


def _without_source(terms: HeadTerms, writer: int, slot: str) -> Float[Tensor, "pair query key"]:
    """The pattern when the input reads a stream without a writer, norms computed anew."""
    less = terms.x - terms.written[:, :, writer]
    q, k = terms.q.live(less if slot == "q" else terms.x), terms.k.live(less if slot == "k" else terms.x)
    return terms.attention(torch.einsum("bqe,bke->bqk", q, k) * terms.scale)


def _reason(runs: PairedRuns, asked: AskedEdge, seen: list[_Seen]) -> Reason:
    """The batches put together."""
    order = np.argsort(np.concatenate([one.index for one in seen]))
    terms = np.concatenate([one.terms.cpu().numpy() for one in seen])[
        order
    ]  # (pair, query writer, key writer)
    names, read = seen[0].names, asked.read
    own = {"q": "query", "k": "key"}
    u = names[read].index(asked.source)
    mine = terms[:, u] if read == "q" else terms[:, :, u]
    other: Read = "k" if read == "q" else "q"

    clusters = runs.pairs.pairs.clusters

    def ranking(title: str, sums_to: str, labels: tuple[str, ...], values: np.ndarray) -> Ranking:
        return Ranking(
            title=title, sums_to=sums_to, unit=UNIT, labels=labels, values=values.T, clusters=clusters
        )

    total = f"the score of the key over those that get the attention without {asked.source}"
    sides = {
        "q": ranking("who writes the query", total, names["q"], terms.sum(2)),
        "k": ranking("who writes the key", total, names["k"], terms.sum(1)),
    }
    met = ranking(
        f"what the {own[read]} part of {asked.source} meets on the {own[other]} side",
        f"the part of {asked.source}",
        names[other],
        mine,
    )
    return Reason(
        edge=str(asked.edge),
        read=read,
        task=runs.pairs.pairs.task,
        model=str(runs.provenance()["model"]),
        n_pairs=runs.n_pairs,
        places=_counted(seen),
        rankings=(sides[read], met, sides[other]),
        facts=_facts(runs, asked, seen, sides[read]),
        errors={name: max(one.errors[name] for one in seen) for name in seen[0].errors},
        notes=_notes(runs, seen),
        provenance=runs.provenance(),
    )


def _counted(seen: list[_Seen]) -> tuple[dict[str, Any], ...]:
    """Where was looked at, the places of most pairs first."""
    counts = Counter(place for one in seen for place in one.tokens)
    return tuple({"query": q, "key": k, "pairs": n} for (q, k), n in counts.most_common())


def _facts(runs: PairedRuns, asked: AskedEdge, seen: list[_Seen], side: Ranking) -> dict[str, Any]:
    def mean(of: str, name: str) -> float:
        return float(torch.cat([getattr(one, of)[name] for one in seen]).mean())

    linear, whole = mean("split", "linear"), mean("split", "whole")
    unit = runs.metric.unit
    return {
        f"rank of {asked.source}": f"{side.rank(asked.source)} of {len(side.labels)}",
        f"term of {asked.source}, centred over keys": float(torch.cat([one.centred for one in seen]).mean()),
        "attention to the key": mean("attention", "as it is"),
        f"without the part of {asked.source}, norms frozen": mean("attention", "frozen"),
        f"without {asked.source}, norms live": mean("attention", "live"),
        f"edge score, first order ({unit})": whole,
        "of it through the score, norms frozen": linear,
        "of it through the norms": whole - linear,
    }


def _notes(runs: PairedRuns, seen: list[_Seen]) -> tuple[str, ...]:
    notes = [
        "terms are exact for frozen norms; with norms live, taking a writer away also rescales the others"
    ]
    cap = getattr(runs.model.cfg, "attn_scores_soft_cap", None)
    if isinstance(cap, int | float) and cap > 0:
        notes.append(f"scores are soft-capped at {cap:g}; terms are of the score before the cap")
    return tuple(notes)


__all__ = ["why"]
