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
from workbench.papers.kit import Claim, Conditions, fact, judge_all, needs
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
        rows.append(row | ({"class in the paper": roles.get(label, "–")} if state.comparable else {}))
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
    c = Conditions(numbers={"receivers": len(receivers), "senders": len(before), "taken": {}})
    tested = {step: path_claim(claim, least, paper)}
    if not before:
        return StepResult(name=step, title=title, claims=judge_all(tested, c), found={key: {}})
    effects = state.path_patches(step, before, receivers, (position,), mlps=mlps)
    supports, against = take(effects, least)
    c.numbers["taken"] = supports
    return StepResult(
        name=step,
        title=title,
        tables={effects.title: path_rows(effects, state, supports | against)},
        claims=(*judge_all(tested, c), *recall_claims(state, supports, classes)),
        found={key: supports},
    )


def path_claim(says: str, least: float, paper: str) -> Claim:
    """Make the claim that some part acts on the receivers."""
    return Claim(
        says,
        fact(
            f"a part whose path carries {least:.1%} of the clean metric and three standard errors",
            lambda c: c.numbers["taken"],
        ),
        paper=paper,
        needs=[
            needs(lambda c: c.numbers["receivers"], "the step before found nothing to read from"),
            needs(lambda c: c.numbers["senders"], "nothing comes before the receivers"),
        ],
        found=lambda c: listed(c.numbers["taken"]),
    )


def recall_claims(
    state: State, taken: Mapping[str, float], classes: Sequence[str]
) -> tuple[JudgedClaim, ...]:
    """Whether the paper's parts of these classes are among those taken up; only on the paper's model."""
    if not state.comparable:
        return ()
    theirs = {name: [p for p, role in published_roles(state).items() if role == name] for name in classes}
    both = {name: [part for part in parts if part in taken] for name, parts in theirs.items()}
    return judge_all(
        {name: recall_claim(name) for name in classes}, Conditions(numbers={"theirs": theirs, "both": both})
    )


def recall_claim(name: str) -> Claim:
    """Make the claim that the paper's parts of a class are found again."""
    return Claim(
        f"the paper's class is found: {name}",
        fact(
            "at least half of the paper's parts of the class are taken up",
            lambda c: 2 * len(c.numbers["both"][name]) >= len(c.numbers["theirs"][name]),
        ),
        paper=lambda c: named(c.numbers["theirs"][name]),
        found=lambda c: (
            f"{len(c.numbers['both'][name])} of {len(c.numbers['theirs'][name])}: {named(c.numbers['both'][name])}"
        ),
    )


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
