"""What a paper is written with: conditions that are measured, claims that are data, the algebra of their criteria."""

from __future__ import annotations

from workbench.papers.kit.claims import Claim, Need, judge_all, needs, untried
from workbench.papers.kit.conditions import Conditions
from workbench.papers.kit.criteria import (
    Criterion,
    Outcome,
    above,
    at_least,
    at_most,
    beats_draws,
    below,
    correlates,
    equal,
    fact,
    flips,
    given_p,
    groups_agree,
    groups_differ,
    interval_excludes,
    no_worse,
    order,
    permuted,
    share_above,
    sign_changes,
    slopes,
    tells,
)
from workbench.papers.kit.paper import Paper

__all__ = [
    "Claim",
    "Conditions",
    "Criterion",
    "Need",
    "Outcome",
    "Paper",
    "above",
    "at_least",
    "at_most",
    "beats_draws",
    "below",
    "correlates",
    "groups_agree",
    "groups_differ",
    "sign_changes",
    "slopes",
    "tells",
    "equal",
    "fact",
    "flips",
    "given_p",
    "interval_excludes",
    "judge_all",
    "needs",
    "no_worse",
    "order",
    "permuted",
    "share_above",
    "untried",
]
