"""What the page of a circuit shows when a head or an edge is clicked: measured once, kept beside the circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.circuits.addresses import parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.details import (
    DetailsContent,
    EdgeDetail,
    EdgeReason,
    HeadDetail,
    Term,
    Terms,
)
from workbench.circuits.logit_parts import LogitParts
from workbench.circuits.reason import Ranking, Reason
from workbench.circuits.scores import Scores
from workbench.circuits.verdicts.judgement import circuit_digest
from workbench.core.errors import WorkbenchError
from workbench.core.progress import Progress, silent
from workbench.core.stats.intervals import mean_interval
from workbench.engine.direct_logits import direct_logits
from workbench.engine.experiments import ablate
from workbench.engine.explained_edge import why
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.shown_prompts import shown_prompts
from workbench.methods.exact import edge_effects

MOST_EDGES = 60  # reasons of 60 edges are 0.1 MB of a page and 10 seconds of a model of four layers
N_PROMPTS = 4
MOST_TERMS = 6
_FACTS = 8


def circuit_details(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    scores: Scores | None = None,
    most_edges: int = MOST_EDGES,
    n_prompts: int = N_PROMPTS,
    ablation: Ablation = "resample",
    progress: Progress | None = None,
) -> DetailsContent:
    """Measure what the page shows of the circuit's heads and strongest edges.

    Args:
        circuit: Edges at any level; patterns of heads of a tower are on its own positions.
        scores: Those that it was chosen from: with them the exact effect of each edge is measured too.
        most_edges: Reasons and exact effects of so many edges, the strongest first.
        n_prompts: Patterns on the clean prompts of so many pairs, and on the corrupted prompt of the first.
        ablation: With what heads and edges are ablated for their effects.

    Returns:
        Patterns in 8 bits; effects with interval, direct contributions, attention by named position and written tokens
        of each head; exact effect and reason of each edge. In the metric's unit; positive supports the behavior. What
        this model does not allow is left out, and ``notes`` say why.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> scores = wb.score(runs, "eap")
        >>> found = wb.circuit_details(scores.top(20), runs, scores=scores, most_edges=2)
        >>> sorted(found.edges) == sorted(str(e) for e in scores.top(20).edges if e in found.edges), len(found.prompts)
        (True, 5)
    """
    notes: list[str] = []
    heads = _heads(circuit)
    told = progress or silent
    parts = _direct(runs, notes) if heads else None
    prompts = shown_prompts(runs, heads, n_prompts, notes)
    measured = _head_details(runs, heads, parts, ablation, told)
    edges = _edge_details(circuit, runs, scores, most_edges, ablation, notes, told)
    return _content(circuit, runs, ablation, prompts=prompts, heads=measured, edges=edges, notes=notes)


def details_under(
    circuit: Circuit,
    runs: PairedRuns,
    ablation: Ablation,
    *,
    scores: Scores | None = None,
    most_edges: int = MOST_EDGES,
    progress: Progress | None = None,
) -> DetailsContent:
    """Measure the effects of the circuit's heads and strongest edges under one more ablation, and nothing else.

    Returns:
        Effects of heads with 95 % intervals and exact effects of edges, in the metric's unit; positive supports the
        behavior. No patterns and no reasons: those do not depend on the ablation.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> scores = wb.score(runs, "eap")
        >>> found = details_under(scores.top(20), runs, "zero", scores=scores, most_edges=1)
        >>> found.ablation, len(found.prompts), len(found.edges)
        ('zero', 0, 1)
    """
    notes: list[str] = []
    told, heads = progress or silent, _heads(circuit)
    strongest = sorted(circuit.edges, key=lambda edge: -abs(circuit.edges[edge]))[:most_edges]
    exact = _exact(strongest, runs, scores, ablation, notes, told)
    return _content(
        circuit,
        runs,
        ablation,
        heads=_head_details(runs, heads, None, ablation, told),
        edges={edge: EdgeDetail(exact=value) for edge, value in exact.items()},
        notes=notes,
    )


def _content(circuit: Circuit, runs: PairedRuns, ablation: Ablation, **found: Any) -> DetailsContent:
    return DetailsContent(
        circuit=circuit_digest(circuit),
        model=runs.identity.name,
        task=runs.pairs.pairs.task,
        metric=runs.metric.name,
        unit=runs.metric.unit,
        ablation=str(ablation),
        n_pairs=runs.n_pairs,
        provenance=runs.provenance(),
        **{"prompts": [], **found},
    )


def _heads(circuit: Circuit) -> list[str]:
    """Heads in the circuit, positions left out."""
    found = [parse_node(name, towers=True) for name in circuit.all_nodes]
    return list(dict.fromkeys(str(n.at(None)) for n in found if n.kind == "head"))


def _direct(runs: PairedRuns, notes: list[str]) -> LogitParts | None:
    try:
        found: LogitParts = direct_logits(runs, ablation=None)
    except WorkbenchError as problem:
        notes.append(f"what heads add to the logits is not shown: {problem.message}")
        return None
    return found


def _head_details(
    runs: PairedRuns, heads: Sequence[str], parts: LogitParts | None, ablation: Ablation, progress: Progress
) -> dict[str, HeadDetail]:
    """Effect with interval, direct contribution and where each head looks."""
    if not heads:
        return {}
    effects = ablate(runs, list(heads), ablation=ablation, progress=progress)
    found = {}
    for head, per_pair in zip(heads, effects.per_pair, strict=True):
        interval = mean_interval(per_pair, clusters=effects.clusters)
        found[head] = HeadDetail(
            effect=_number(per_pair.mean()),
            low=_number(interval.low),
            high=_number(interval.high),
            **_of_parts(parts, head),
        )
    return found


def _of_parts(parts: LogitParts | None, head: str) -> dict[str, Any]:
    if parts is None or head not in parts.labels:
        return {}
    row = parts.labels.index(head)
    values, found = parts.values[row], {}
    found = {"direct": _number(values.mean()), "direct_stderr": _number(parts.errors_of(values[None])[0])}
    if parts.carried is None:
        return found
    looks = dict(zip(parts.carried.places, parts.carried.attention[row].tolist(), strict=True))
    largest = sorted(looks, key=lambda place: -looks[place])[:_FACTS]
    return {
        **found,
        "looks": {place: looks[place] for place in largest},
        "carries": str(parts.carried.most(row)["carries_from"]),
    }


def _edge_details(
    circuit: Circuit,
    runs: PairedRuns,
    scores: Scores | None,
    most: int,
    ablation: Ablation,
    notes: list[str],
    progress: Progress,
) -> dict[str, EdgeDetail]:
    """Exact effects and reasons of the strongest edges."""
    strongest = sorted(circuit.edges, key=lambda edge: -abs(circuit.edges[edge]))
    chosen = strongest[:most]
    if len(strongest) > most:
        notes.append(f"reasons and exact effects are of the {most} strongest of {len(strongest)} edges")
    exact = _exact(chosen, runs, scores, ablation, notes, progress)
    found = {}
    for i, edge in enumerate(chosen):
        progress(i, len(chosen), "reasons of edges")
        reason, why_not = _reason(runs, edge)
        found[edge] = EdgeDetail(exact=exact.get(edge), reason=reason, why_not=why_not)
    return found


def _exact(
    edges: Sequence[str],
    runs: PairedRuns,
    scores: Scores | None,
    ablation: Ablation,
    notes: list[str],
    progress: Progress,
) -> Mapping[str, float]:
    if not edges:
        return {}
    if scores is None or scores.level != "edge":
        notes.append(
            "exact effects of edges are not measured: there are no scores of edges beside the circuit"
        )
        return {}
    known = {scores.address(tuple(index)): tuple(index) for index in np.argwhere(scores.candidates).tolist()}
    here = [edge for edge in edges if edge in known]
    try:
        values = edge_effects(runs, scores, [known[e] for e in here], ablation=ablation, progress=progress)
    except WorkbenchError as problem:
        notes.append(f"exact effects of edges are not measured: {problem.message}")
        return {}
    return dict(zip(here, values.tolist(), strict=True))


def _reason(runs: PairedRuns, edge: str) -> tuple[EdgeReason | None, str]:
    """The reason of an edge, short enough for a page; or why it has none."""
    target = parse_edge(edge, towers=True).target
    if target.slot not in ("q", "k", "v") and target.kind not in ("mlp", "logits"):
        return (
            None,
            f"There are no reasons for edges into {target}: ask for those into heads, MLPs and the logits.",
        )
    try:
        return _short(why(runs, edge)), ""
    except WorkbenchError as problem:
        return None, problem.message


def _short(reason: Reason) -> EdgeReason:
    return EdgeReason(
        read=reason.read,
        n_pairs=reason.n_pairs,
        places=[dict(place) for place in reason.places[:3]],
        rankings=[_terms(ranking) for ranking in reason.rankings],
        facts={
            name: _number(value) if isinstance(value, float) else value
            for name, value in list(reason.facts.items())[:_FACTS]
        },
    )


def _terms(ranking: Ranking) -> Terms:
    rows = ranking.rows(MOST_TERMS)
    return Terms(
        title=ranking.title,
        sums_to=ranking.sums_to,
        unit=ranking.unit,
        total=ranking.total,
        of=len(ranking.labels),
        terms=[Term(term=row["term"], mean=row["mean"], share=row["share"]) for row in rows],
    )


def _number(value: float | np.floating[Any] | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


__all__ = ["MOST_EDGES", "circuit_details", "details_under"]
