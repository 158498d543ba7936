"""What a full evaluation measures, as plain numbers: the evidence from which verdicts are computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.scores import Scores
from workbench.circuits.selection.rules import said
from workbench.core.errors import OptionError
from workbench.evaluate.baselines import matched_heads, random_circuit, random_path
from workbench.evaluate.completeness import Completeness
from workbench.evaluate.curve import MIB_SHARES
from workbench.evaluate.faithfulness import run_circuits
from workbench.evaluate.judge_plan import JudgePlan
from workbench.evaluate.minimality import Minimality, sampled
from workbench.evaluate.specificity import OtherTasks, specificity
from workbench.evaluate.stability import OWN
from workbench.evaluate.subject import Progress, Subject


def numbers(values: np.ndarray) -> list[float]:
    """Seven significant digits, as much as float32 has; verdicts are computed from these."""
    return [float(f"{x:.7g}") for x in np.asarray(values, dtype=float).tolist()]


def rounded(values: np.ndarray) -> np.ndarray:
    """Return the values as they are saved, so that what is computed here and from a file is the same."""
    flat = numbers(np.asarray(values).reshape(-1))
    return np.array(flat).reshape(np.shape(values))


def scores_evidence(subject: Subject, progress: Progress | None) -> dict[str, list[float]]:
    """Return, per pair: the model, the circuit, nothing, and the model with the circuit knocked out."""
    names = ("circuit", "nothing", "complement")
    values = subject.measure([subject.kept, subject.nothing, subject.complement], progress)
    return {"model": numbers(subject.runs.clean)} | {
        n: numbers(v) for n, v in zip(names, values, strict=True)
    }


def completeness_evidence(found: Completeness) -> list[dict[str, Any]]:
    """Return the sets taken away, with the metric of circuit and model per pair."""
    return [
        {
            "kind": row.kind,
            "name": row.name,
            "removed": list(row.removed),
            "circuit": numbers(row.circuit),
            "model": numbers(row.model),
            "searched": list(row.searched),
        }
        for row in found.rows
    ]


def minimality_evidence(found: Minimality) -> list[dict[str, Any]]:
    """Return the nodes left out, with the metric before and after per pair."""
    return [
        {
            "part": row.part,
            "class": row.of,
            "rest": list(row.rest),
            "kept": numbers(row.kept),
            "left_out": numbers(row.left_out),
        }
        for row in found.rows
    ]


def edge_evidence(subject: Subject, plan: JudgePlan, progress: Progress | None) -> dict[str, Any]:
    """Return the circuit without each edge, and what random new edges change in inflated circuits.

    Source:
        Shi et al. 2024, arXiv:2410.13032: each inflated circuit is the circuit with one random path more, and one
        random new edge of that path is taken out again.
    """
    edges = sampled(subject.edges, plan.edges, plan.seed)
    left_out = subject.measure([subject.without(subject.kept, [edge]) for edge in edges], progress)
    rng = np.random.default_rng(plan.seed)
    masks: list[np.ndarray] = []
    for _ in range(plan.draws):
        masks += _inflated(subject, rng)
    values = subject.measure(masks, progress) if masks else np.zeros((0, subject.runs.n_pairs))
    if not len(values):
        raise OptionError(
            "the circuit holds every edge: there is no random edge to compare its edges with",
            hint="keep fewer: workbench discover --keep 10%",
        )
    return {
        "of": len(subject.edges),
        "seed": plan.seed,
        "left_out": [{"edge": e, "left_out": numbers(v)} for e, v in zip(edges, left_out, strict=True)],
        "reference": numbers(((rounded(values[::2]) - rounded(values[1::2])) ** 2).mean(1)),
    }


def _inflated(subject: Subject, rng: np.random.Generator) -> list[np.ndarray]:
    """The circuit with one random path more, and the same without one new edge; empty if no path has a new one."""
    for _ in range(200):
        path = random_path(subject.graph, rng, positions=subject.labels)
        new = [edge for edge in path if not subject.kept[subject.at(edge)].all()]
        if new:
            break
    else:
        return []
    inflated = subject.kept.copy()
    for edge in path:
        inflated[subject.at(edge)] = True
    smaller, at = inflated.copy(), subject.at(new[int(rng.integers(len(new)))])
    smaller[at] = subject.kept[at]
    return [inflated, smaller]


def random_evidence(subject: Subject, plan: JudgePlan, progress: Progress | None) -> dict[str, Any]:
    """Return random circuits of the same size: their metric, how far they are from the model, and the model without
    them.
    """
    rng, circuit = np.random.default_rng(plan.seed), subject.circuit
    drawn = [
        random_circuit(subject.graph, circuit.size, rng, level=circuit.level, positions=subject.labels)
        for _ in range(plan.draws)
    ]
    masks = [subject.mask_of(c) for c in drawn]
    kept = subject.measure(masks, progress)
    gone = subject.measure([(subject.everything & ~mask) | subject.nothing for mask in masks], progress)
    return {
        "seed": plan.seed,
        "sizes": [c.size for c in drawn],
        "metric": numbers(kept.mean(1)),
        "distance": numbers(((kept - subject.runs.clean) ** 2).mean(1)),
        "knocked_out": numbers(((gone - subject.runs.clean) ** 2).mean(1)),
    }


def matched_evidence(subject: Subject, plan: JudgePlan, progress: Progress | None) -> dict[str, Any]:
    """Return heads of the circuit and as many others of the same layers, knocked out of the model: what each costs."""
    heads = list(
        dict.fromkeys(
            node.at(None) for a in subject.nodes if (node := parse_node(a, towers=True)).kind == "head"
        )
    )
    rng = np.random.default_rng(plan.seed)
    pairs = [matched_heads(subject.graph, heads, rng) for _ in range(plan.matched)]
    pairs = [(own, other) for own, other in pairs if own]
    masks = [subject.without(subject.everything, map(str, nodes)) for both in pairs for nodes in both]
    values = subject.measure(masks, progress) if masks else np.zeros((0, subject.runs.n_pairs))
    drops = numbers((subject.runs.clean - values).mean(1)) if len(values) else []
    return {
        "seed": plan.seed,
        "draws": [
            {
                "n": len(own),
                "heads": [str(h) for h in own],
                "controls": [str(h) for h in other],
                "drop": drops[2 * i],
                "control_drop": drops[2 * i + 1],
            }
            for i, (own, other) in enumerate(pairs)
        ],
    }


def curve_evidence(subject: Subject, scores: Scores, progress: Progress | None) -> dict[str, Any]:
    """Return the metric of the best share of edges (nodes) at the sizes of MIB, chosen as the circuit was chosen.

    Raises:
        OptionError: if the scores are of other parts than the circuit.
    """
    if scores.level != subject.circuit.level or scores.graph.shape != subject.graph.shape:
        raise OptionError(
            "the scores beside the circuit are of another level or architecture",
            hint="evaluate the circuit beside the scores it was selected from",
        )
    rule = str(subject.circuit.selection.get("rule", ""))
    by: Literal["absolute", "signed"]
    by = "signed" if "signed" in rule or rule == OWN else "absolute"  # a method's own decision is by sign
    words = said(rule)
    select = "top" if words is None else words[0]
    counts = [scores.count(share) for share in MIB_SHARES]
    chosen = [scores.choose(n, by=by, select=select) for n in counts]
    values = run_circuits(subject.runs, chosen, ablation=subject.ablation, progress=progress)
    return {
        "ranking": by,
        "greedy": select == "greedy",
        "select": select,
        "shares": list(MIB_SHARES),
        "sizes": [c.size for c in chosen],
        "metric": [numbers(v) for v in values],
    }


def specificity_evidence(
    subject: Subject, others: OtherTasks, plan: JudgePlan, progress: Progress | None
) -> dict[str, Any]:
    """Return what cutting the circuit out costs its task and others, beside random circuits.

    Raises:
        OptionError: if there is no other task to compare with.
    """
    found = specificity(
        subject.circuit,
        subject.runs,
        others=others,
        draws=plan.cuts,
        part_draws=plan.part_cuts,
        seed=plan.seed,
        ablation=subject.ablation,
        progress=progress,
    ).to_dict()
    for damage in (found["own"], *found["others"]):
        damage |= {name: numbers(damage[name]) for name in ("full", "without", "nothing", "random")}
    return found


def ablation_evidence(subject: Subject, plan: JudgePlan, progress: Progress | None) -> Mapping[str, Any]:
    """Return the circuit and nothing under every ablation, per pair."""
    found: dict[str, Any] = {}
    for ablation in plan.ablations:
        other = (
            subject
            if ablation == subject.ablation
            else Subject(runs=subject.runs, circuit=subject.circuit, ablation=ablation)
        )
        values = other.measure([other.kept, other.nothing], progress)
        found[ablation] = {"circuit": numbers(values[0]), "nothing": numbers(values[1])}
    return found
