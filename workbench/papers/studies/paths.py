"""Path patching backwards from the answer: what every study takes its heads by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.effects import Effects
from workbench.core.claims import JudgedClaim, Rows
from workbench.core.loading import lazily
from workbench.engine.interventions.words import Mlps
from workbench.papers.kit import Claim, Conditions, at_least, judge_all
from workbench.papers.studies.kinds import State, StepResult

with lazily():
    from workbench.engine.interventions import path_patching

ERRORS = 3.0  # standard errors that an effect must be away from zero, so that nothing is taken up by chance
ATTENTION = 0.3  # least mean attention from one position to another that counts as looking there


def take(effects: Effects, least: float) -> tuple[dict[str, float], dict[str, float]]:
    """Senders whose path carries at least this share of the clean metric: those for it, those against."""
    scale = abs(float(effects.base.mean()))
    share, clear = effects.mean / scale, np.abs(effects.mean) > ERRORS * effects.stderr
    order = [int(i) for i in np.argsort(-np.abs(share), kind="stable")]
    supports = {effects.labels[i]: float(share[i]) for i in order if clear[i] and share[i] >= least}
    against = {effects.labels[i]: float(share[i]) for i in order if clear[i] and share[i] <= -least}
    return supports, against


def does_it(state: State, rows: Rows, numbers: Mapping[str, Any], claims: Mapping[str, Claim]) -> StepResult:
    """The first step: whether the model does the task at all, by the claim that stands first."""
    judged = judge_all(claims, Conditions(numbers=dict(numbers)))
    found = {"does_task": judged[0].verdict == "holds", "clean": float(state.runs.clean.mean())}
    return StepResult(name="task", title="The task", tables={"": rows}, claims=judged, found=found)


def of_paper(state: State, roles: Mapping[str, str], part: str) -> dict[str, str]:
    """The column of a part's class in the paper, on the paper's model."""
    return {"class in the paper": roles.get(part, "–")} if state.comparable else {}


def path_rows(effects: Effects, state: State, taken: Mapping[str, float], most: int = 12) -> Rows:
    """The strongest senders: effect in the metric's unit, as a share of the clean metric, whether taken up."""
    scale, rows = abs(float(effects.base.mean())), []
    roles = published_roles(state)
    for i in np.argsort(-np.abs(effects.mean), kind="stable")[:most]:
        label = effects.labels[int(i)]
        row: dict[str, Any] = {
            "sender": label,
            f"effect ({effects.unit})": float(effects.mean[i]),
            "± se": float(effects.stderr[i]),
            "share of the clean metric": float(effects.mean[i]) / scale,
            "taken up": label in taken,
        }
        rows.append(row | of_paper(state, roles, label))
    return rows


def backwards(
    state: State,
    *,
    step: str,
    title: str,
    senders: Sequence[str],
    receivers: Sequence[str],
    position: str,
    claim: str,
    least: float,
    paper: str,
    key: str,
    mlps: Mlps = "recomputed",
    classes: Sequence[str] = (),
) -> StepResult:
    """Path patching from the senders to these inputs; the next step gets those whose paths carry enough.

    ``classes`` are the paper's classes that should be among them, asked where head numbers mean the same.
    """
    parallel = state.runs.wiring.parallel
    targets = [parse_node(r) for r in receivers]
    before = [
        s for s in senders if any(path_patching.reads(parse_node(s), t, parallel=parallel) for t in targets)
    ]
    c = Conditions()
    tested = {step: path_claim(claim, least, paper)}
    if not before:
        why = (
            "nothing comes before the receivers"
            if receivers
            else "the step before found nothing to read from"
        )
        c.lack("parts taken up", why)
        return StepResult(name=step, title=title, claims=judge_all(tested, c), found={key: {}})
    effects = state.path_patches(step, before, receivers, (position,), mlps=mlps)
    supports, against = take(effects, least)
    c.numbers |= {"parts taken up": len(supports), "which": listed(supports)}
    return StepResult(
        name=step,
        title=title,
        tables={effects.title: path_rows(effects, state, supports | against)},
        claims=(*judge_all(tested, c), *recall_claims(state, supports, classes)),
        found={key: supports},
    )


def path_claim(says: str, least: float, paper: str) -> Claim:
    """Make the claim that some part acts on the receivers."""
    words = f"a part whose path carries {least:.1%} of the clean metric and three standard errors"
    return Claim(says, at_least("parts taken up", 1), words, paper=paper, found="{which}")


def recall_claims(
    state: State, taken: Mapping[str, float], classes: Sequence[str]
) -> tuple[JudgedClaim, ...]:
    """Whether the paper's parts of these classes are among those taken up; only on the paper's model."""
    if not state.comparable:
        return ()
    made: list[JudgedClaim] = []
    for name in classes:
        theirs = [part for part, role in published_roles(state).items() if role == name]
        both = [part for part in theirs if part in taken]
        claim = Claim(
            f"the paper's class is found: {name}",
            at_least("parts found again", "parts of the class", times=1 / 2),
            paper=named(theirs),
            found=f"{len(both)} of {len(theirs)}: {named(both)}",
            control=None,
        )
        c = Conditions(numbers={"parts found again": len(both), "parts of the class": len(theirs)})
        made += judge_all({name: claim}, c)
    return tuple(made)


def published_roles(state: State) -> dict[str, str]:
    """Part -> class in the paper."""
    return {str(parse_node(a).at(None)): d["role"] for a, d in state.published.nodes.items()}


def shared(inputs: Sequence[str], state: State) -> list[str]:
    """Keys and values that several heads share are one receiver."""
    wiring = state.runs.wiring
    if wiring.n_kv_heads == wiring.n_heads:
        return list(inputs)
    nodes = [parse_node(text) for text in inputs]
    per = wiring.n_heads // wiring.n_kv_heads
    return list(dict.fromkeys(f"a{n.layer}.g{int(n.index or 0) // per}<{n.slot}>" for n in nodes))


def listed(parts: Mapping[str, float]) -> str:
    """Parts as papers write them: 9.6, 10.0, m8."""
    return ", ".join(p.removeprefix("a").replace("h", "") for p in parts) or "none"


def named(parts: Sequence[str]) -> str:
    """The same for parts without effects."""
    return listed(dict.fromkeys(parts, 0.0))


def looks(row: Mapping[str, float], query: str, keys: Sequence[str]) -> str | None:
    """Which of these positions a head looks at most from ``query``; None below ``ATTENTION``."""
    best = max(keys, key=lambda key: row[f"{query} to {key}"])
    return best if row[f"{query} to {best}"] >= ATTENTION else None


def weighted(effects: Mapping[str, float], holds: Mapping[str, bool]) -> float:
    """Share of the summed effect that parts with a property carry."""
    total = sum(abs(x) for x in effects.values())
    return sum(abs(x) for part, x in effects.items() if holds[part]) / total if total else float("nan")
