"""Verdicts on a circuit, each computed from the evidence of an evaluation file and nothing else.

``judge`` measures and saves the evidence; ``recompute_verdicts`` reads the file and decides again. There is one way
from evidence to verdict, and it is here and in ``workbench/circuits/verdicts/decisions.py``: no model, no random
number that is not named in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.circuits.verdicts import decisions
from workbench.circuits.verdicts.criteria import Criteria, Verdict
from workbench.circuits.verdicts.decisions import Case
from workbench.circuits.verdicts.statistics import TestResult


def recompute_verdicts(
    evaluation: Mapping[str, Any], criteria: Criteria | None = None
) -> tuple[Verdict, ...]:
    """Compute every verdict again, from the content of an evaluation file.

    Args:
        criteria: Where the lines are drawn; by default as the file says, by the rules that it was written under.

    Returns:
        One verdict per question: yes, no or open, with the number behind it.

    Example:
        ``recompute_verdicts(load_evaluation(folder).document)`` equals the verdicts that were saved.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> plan = wb.JudgePlan(
        ...     draws=2, edges=2, random_sets=1, restarts=1, steps=1, candidates=1, bootstraps=2, refits=0
        ... )
        >>> found = wb.judge(wb.score(runs, "eap").top(100), runs, plan=plan)
        >>> wb.recompute_verdicts(found.document) == found.verdicts
        True
    """
    case = Case(evaluation, criteria)
    missing = evaluation.get("missing", {})
    found = []
    for name, (needs, criterion, decide) in _VERDICTS.items():
        if name in _ASKED_LATER and not any(key in case.evidence or key in missing for key in needs):
            continue  # a file of before this was asked
        lacking = next((key for key in needs if key not in case.evidence), None)
        if lacking is None:
            found.append(decide(case, name, criterion(case.criteria)))
        else:
            why = missing.get(lacking, "not measured")
            found.append(Verdict(name=name, holds=None, measured=why, criterion=criterion(case.criteria)))
    return tuple(found)


def edge_tests(evaluation: Mapping[str, Any]) -> tuple[TestResult, ...]:
    """Return the minimality test of every edge that was tested; none at node level."""
    case = Case(evaluation)
    return case.edge_tests() if "edges" in case.evidence else ()


_Decide = Callable[[Case, str, str], Verdict]
_VERDICTS: dict[str, tuple[tuple[str, ...], Callable[[Criteria], str], _Decide]] = {
    "faithful": (
        ("scores",),
        lambda c: (
            f"faithfulness within {c.tolerance:.0%} of the full model, of {c.least_pairs} independent pairs or more"
        ),
        decisions.faithful,
    ),
    "equivalent": (
        ("scores",),
        lambda c: f"as often above as below the model: p >= {c.alpha:g}, epsilon {c.epsilon:g}",
        decisions.equivalent,
    ),
    "complete": (
        ("completeness",),
        lambda c: (
            f"without the same parts, circuit and model differ by at most {c.incompleteness:.0%} of the gap"
        ),
        decisions.complete,
    ),
    "minimal": (
        ("minimality",),
        lambda c: (
            f"every node's effect is at least {c.least_effect:.0%} of the gap and clear of zero, all tested together: "
            f"p < {c.alpha:g}, correction {c.node_correction}"
        ),
        decisions.minimal,
    ),
    "no superfluous edge": (
        ("edges",),
        lambda c: f"no edge that random edges match, p >= {c.alpha:g} after {c.correction}",
        decisions.edges,
    ),
    "independent": (
        ("scores",),
        lambda c: f"the model without it says nothing of the model: p >= {c.alpha:g}",
        decisions.independent,
    ),
    "sufficient": (
        ("random",),
        lambda c: f"more faithful than at least {c.share:.0%} of random circuits of its size",
        decisions.sufficient,
    ),
    "partially necessary": (
        ("random",),
        lambda c: f"its loss hurts more than that of at least {c.share:.0%} of random circuits of its size",
        decisions.necessary,
    ),
    "better than random": (
        ("random",),
        lambda c: f"rank among random circuits of its size: p < {c.alpha:g}",
        decisions.better,
    ),
    "heads matter more than others": (
        ("matched",),
        lambda c: (
            f"knocked out, they cost more than as many other heads of their layers in {1 - c.alpha:.0%} of draws"
        ),
        decisions.matched,
    ),
    "robust to the ablation": (
        ("ablations",),
        lambda c: f"faithfulness within {c.tolerance:.0%} of the full model under every ablation",
        decisions.ablations,
    ),
    "robust to the template": (
        ("scores",),
        lambda c: f"faithfulness within {c.tolerance:.0%} of the full model in every template",
        decisions.templates,
    ),
    "stable": (
        ("stability",),
        lambda c: f"mean Jaccard over bootstraps at least {c.jaccard:g}",
        decisions.stable,
    ),
    "specific": (
        ("specificity",),
        lambda c: (
            f"its task loses more without it than others do, the 95 % interval above 0, and more so than without at "
            f"least {c.share:.0%} of random circuits of its size"
        ),
        decisions.specific,
    ),
}
_ASKED_LATER = ("specific",)
