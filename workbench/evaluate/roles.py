"""Roles of heads: where they look between named positions, and what they write to the answer.

A role is a measurement with a name. Each rule says from which position a head must look at which (mean attention at
least ``threshold``), and in which range its direct effect on the metric must lie. The rules for IOI follow Wang et al.
2023, arXiv:2211.00593, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.circuits import addresses as names
from workbench.circuits.effects import Effects
from workbench.core.show import Shown
from workbench.core.stats.student import standard_errors
from workbench.engine.interventions.path_patching import path_patches
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.heads.observe import patterns_of
from workbench.heads.rounds import TaskCircuit
from workbench.heads.table import LABEL
from workbench.model.pattern_rows import looked
from workbench.model.wiring import require_heads


@dataclass(frozen=True, kw_only=True)
class RoleRule:
    """A role: look from ``query`` at ``key``, with a direct effect in this range.

    ``least`` and ``most`` bound the direct effect as a share of the gap between clean and corrupted metric.
    """

    role: str
    query: str
    key: str
    least: float = -np.inf
    most: float = np.inf


# A mover writes the answer itself: at least 1 % of the gap by the direct path. S-inhibition heads act through later
# heads; a head that reads S2 and writes more than 5 % of the gap directly is a mover, whatever it looks at.
IOI_RULES = (
    RoleRule(role="name mover", query="end", key="IO", least=0.01),
    RoleRule(role="negative name mover", query="end", key="IO", most=-0.01),
    RoleRule(role="S2 mover", query="end", key="S2", least=0.05),
    RoleRule(role="S-inhibition", query="end", key="S2", least=-0.05, most=0.05),
    RoleRule(role="duplicate token", query="S2", key="S1"),
    RoleRule(role="induction", query="S2", key="S1+1"),
    RoleRule(role="previous token", query="S1+1", key="S1"),
)


@dataclass(frozen=True, kw_only=True)
class HeadRole:
    """A head's role with the numbers behind it: mean attention, direct effect on the metric and its error."""

    head: str
    role: str
    query: str
    key: str
    attention: float
    direct_effect: float
    direct_stderr: float
    unit: str
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(self.__dict__)


class HeadRoles(tuple[HeadRole, ...], Shown, shown_in="workbench.evaluate.show"):
    """Roles of heads as a table."""

    __slots__ = ()

    def to_dataframe(self):
        """One row per head."""
        import pandas as pd

        return pd.DataFrame([role.to_dict() for role in self])


def rules_for(runs: PairedRuns) -> tuple[RoleRule, ...]:
    """Return the rules whose positions the pairs have; for other tasks, one rule per pair of named positions."""
    ordered = runs.position_names
    known = tuple(r for r in IOI_RULES if {r.query, r.key} <= set(ordered))
    if known:
        return known
    return tuple(
        RoleRule(role=f"{query} looks at {key}", query=query, key=key)
        for i, query in enumerate(ordered)
        for key in ordered[:i]
    )


def mean_attention(runs: PairedRuns, pairs_of_positions: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return ``(rule, layer, head)`` mean share of what a head looks at, on the clean prompts, from the first
    position at the second; a query that looks at no key looks at none of them.
    """
    wiring = runs.wiring
    total = np.zeros((len(pairs_of_positions), wiring.n_layers, wiring.n_heads))
    for batch in runs.batches:
        rows = torch.arange(len(batch), device=batch.clean.device)
        seen = patterns_of(runs.model, batch.prompt("clean"))
        for layer in wiring.attention_layers:
            pattern = looked(seen.of(layer)).nan_to_num()
            for r, (query, key) in enumerate(pairs_of_positions):
                weight = pattern[rows, :, batch.at(query), batch.at(key)]  # (pair, head)
                total[r, layer] += weight.double().sum(0).cpu().numpy()
        runs.release(batch)
    return total / runs.n_pairs


def attention_to(runs: PairedRuns, key: str) -> dict[str, float]:
    """Head -> mean attention from the answer's position (``end``) to a named one."""
    values = mean_attention(runs, [("end", key)])[0]
    return {f"a{n}.h{h}": float(values[n, h]) for n in range(values.shape[0]) for h in range(values.shape[1])}


def steering_heads(
    runs: PairedRuns, circuit: TaskCircuit, *, inhibition: int = 3, negative: int = 1, looks: float = 0.3
) -> dict[str, tuple[str, ...]]:
    """Of a circuit of IOI, the heads that say what not to answer, most important first.

    Args:
        inhibition: At most so many that look from the end mostly at the subject's second mention, at least ``looks``.
        negative: At most so many that write against the answer in round 1.
    """
    at = {name: attention_to(runs, name) for name in ("IO", "S1", "S2")}
    ordered = sorted(circuit.heads, key=lambda head: -circuit.importance[head])
    inhibits = [h for h in ordered if at["S2"][h] >= looks and at["S2"][h] > max(at["IO"][h], at["S1"][h])]
    first = circuit.rounds[0]
    against = [h for h in first.kept if first.shares[h] < 0 and h not in inhibits]
    return {"inhibition": tuple(inhibits[:inhibition]), "negative": tuple(against[:negative])}


def direct_effects(runs: PairedRuns) -> Effects:
    """Return each head's effect on the metric by the direct path to the logits: all else frozen (path patching)."""
    heads = [names.head(n, h) for n in runs.wiring.attention_layers for h in range(runs.wiring.n_heads)]
    return path_patches(runs, heads, [names.LOGITS], mlps="frozen")


def _clear_gap(direct: Effects) -> float:
    """The mean gap; NaN unless it is positive by two standard errors, since shares of nothing mean nothing."""
    if direct.gap is None or len(direct.gap) < 2:
        return float("nan")
    mean, error = direct.gap.mean(), standard_errors(direct.gap, direct.clusters)
    return float(mean) if mean > 2 * error else float("nan")


def _within(rule: RoleRule, effect: float, gap: float) -> bool:
    """Whether a direct effect is in the rule's range; a rule without a range fits any."""
    if np.isinf(rule.least) and np.isinf(rule.most):
        return True
    return bool(abs(gap) > 0 and rule.least <= effect / gap <= rule.most)


@on_a_task
def head_roles(
    runs: PairedRuns, *, threshold: float = LABEL, rules: Sequence[RoleRule] | None = None
) -> HeadRoles:
    """Name every head that looks where a rule says, strongest attention first; a head gets its strongest rule.

    Args:
        threshold: Least mean attention from the query to the key position.

    Returns:
        One row per named head: attention is a share from 0 to 1, direct effects are in the metric's unit and positive
        where they support the behavior.

    Raises:
        ModelError: if the model has no attention heads.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> [role.role for role in wb.head_roles(runs)][:1]
        ['previous token']
    """
    require_heads(runs.wiring)
    rules = tuple(rules or rules_for(runs))
    if not rules:
        return HeadRoles()
    attention = mean_attention(runs, [(r.query, r.key) for r in rules])
    direct = direct_effects(runs)
    gap = _clear_gap(direct)
    found = []
    for label, effect, error in zip(direct.labels, direct.mean, direct.stderr, strict=True):
        node = names.parse_node(label)
        fitting = [
            (float(attention[r, node.layer, node.index]), rule)
            for r, rule in enumerate(rules)
            if attention[r, node.layer, node.index] >= threshold and _within(rule, effect, gap)
        ]
        if fitting:
            weight, rule = max(fitting, key=lambda item: item[0])
            found.append(
                HeadRole(
                    head=label,
                    role=rule.role,
                    query=rule.query,
                    key=rule.key,
                    attention=weight,
                    direct_effect=float(effect),
                    direct_stderr=float(error),
                    unit=direct.unit,
                    n=runs.n_pairs,
                )
            )
    return HeadRoles(sorted(found, key=lambda role: -role.attention))
