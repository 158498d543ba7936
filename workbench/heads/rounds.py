"""A task's heads by rounds of path patching, and how far the heads of two tasks are the same.

Round 1 asks which heads write the answer (receiver: the final residual stream); every later round, which heads reach
it through what the heads of the round before read.

Source: Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744; path patching as in Wang et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.circuits import addresses as names
from workbench.circuits.addresses import LOGITS, Node, parse_node
from workbench.circuits.compare import hypergeometric_tail
from workbench.circuits.effects import Effects
from workbench.core.errors import OptionError, TaskError
from workbench.core.stats.agreement import chance_jaccard, jaccard
from workbench.engine.interventions.path_patching import path_patches, reads
from workbench.engine.paired_runs import PairedRuns

ERRORS = 3.0  # standard errors that an effect must be away from zero


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of path patching.

    Attributes:
        slot: What of the receivers was patched: ``logits``, ``q``, ``k`` or ``v``; the one with the largest effect.
        shares: Head -> effect through this path as a share of the gap between clean and corrupted metric.
        kept: The heads taken up, largest first.
    """

    receivers: tuple[str, ...]
    slot: str
    shares: dict[str, float]
    kept: tuple[str, ...]

    def later_than(self, heads: Collection[str]) -> list[str]:
        """Return the senders that come after the first of some heads and are none of them.

        Example:
            >>> shares = {"a0.h0": 0.1, "a1.h0": 0.2, "a1.h1": 0.0}
            >>> Round(receivers=(), slot="logits", shares=shares, kept=()).later_than(["a0.h1", "a1.h1"])
            ['a1.h0']
        """
        first = min(parse_node(head).depth for head in heads)
        return [head for head in self.shares if parse_node(head).depth > first and head not in heads]

    def rows(self, number: int) -> list[dict[str, Any]]:
        """Return one row per head kept."""
        through = ", ".join(self.receivers) if self.slot == "logits" else self.slot
        return [
            {"round": number, "head": head, "through": through, "share of the gap": self.shares[head]}
            for head in self.kept
        ]


@dataclass(frozen=True, kw_only=True)
class TaskCircuit:
    """The heads of a task: the union of all rounds."""

    task: str
    rounds: tuple[Round, ...]
    n_heads: int

    @property
    def heads(self) -> tuple[str, ...]:
        """In the order in which they were found."""
        return tuple(dict.fromkeys(head for r in self.rounds for head in r.kept))

    @property
    def importance(self) -> dict[str, float]:
        """Head -> largest absolute share of any round, for every head that was a sender."""
        found: dict[str, float] = {}
        for r in self.rounds:
            for head, share in r.shares.items():
                found[head] = max(found.get(head, 0.0), abs(share))
        return found

    def rows(self) -> list[dict[str, Any]]:
        return [row for i, r in enumerate(self.rounds, start=1) for row in r.rows(i)]


def task_circuit(
    runs: PairedRuns,
    *,
    rounds: int = 4,
    share: float = 0.02,
    at_least: int = 1,
    floor: float = 0.005,
    progress: Callable[[int, int, str], None] | None = None,
) -> TaskCircuit:
    """Return the heads that rounds of path patching take up.

    Of each round the ``share`` of all heads with the largest absolute effect is kept, if the effect is at least
    ``floor`` of the gap and three standard errors from zero. Receivers of the next round are the heads kept for the
    first time, at the input (q, k or v) through which some head has the largest effect. It ends when nothing is new.

    Args:
        at_least: Heads of each round however small the model is: 2 % of 16 heads are none.

    Raises:
        OptionError: if the metric is no better on clean than on corrupted prompts.
    """
    heads = [names.head(n, h) for n in runs.wiring.attention_layers for h in range(runs.wiring.n_heads)]
    keep, gap = max(at_least, round(share * len(heads))), _gap(runs)
    found: list[Round] = []
    front: list[Node] = [LOGITS]
    seen: set[str] = set()
    while front and len(found) < rounds:
        made = _round(runs, heads, front, keep=keep, gap=gap, floor=floor)
        if made is None:
            break
        found.append(made)
        front = [parse_node(head) for head in made.kept if head not in seen]
        seen.update(made.kept)
        if progress:
            progress(len(found), rounds, f"round {len(found)}: {', '.join(made.kept) or 'nothing'}")
    return TaskCircuit(task=runs.pairs.pairs.task, rounds=tuple(found), n_heads=len(heads))


def _gap(runs: PairedRuns) -> float:
    gap = float(runs.metric.direction * (runs.clean - runs.corrupted).mean())
    if not gap > 0:
        raise OptionError(
            f"{runs.pairs.pairs.task}: {runs.metric.name} is no better on clean than on corrupted prompts "
            f"({gap:.3g}): no path can be important",
            hint="take a model that does the task: workbench model list says which",
        )
    return gap


def _round(
    runs: PairedRuns, heads: Sequence[Node], front: Sequence[Node], *, keep: int, gap: float, floor: float
) -> Round | None:
    """The slot with the largest effect, and the heads that it shows; None when no head writes to the receivers."""
    trials = [
        (slot, effects)
        for slot, receivers in _slots(runs, front).items()
        if (effects := _effects(runs, heads, receivers)) is not None
    ]
    if not trials:
        return None
    slot, effects = max(trials, key=lambda trial: float(np.abs(trial[1].mean).max()))
    clear = [
        label
        for label, mean, error in zip(effects.labels, effects.mean, effects.stderr, strict=True)
        if abs(mean) >= floor * gap and abs(mean) >= ERRORS * error
    ]
    kept = [label for label, _ in effects.top(len(effects)) if label in clear][:keep]
    return Round(
        receivers=tuple(str(node) for node in front),
        slot=slot,
        shares={label: float(m / gap) for label, m in zip(effects.labels, effects.mean, strict=True)},
        kept=tuple(kept),
    )


def _slots(runs: PairedRuns, front: Sequence[Node]) -> dict[str, list[Node]]:
    """Slot -> receivers: heads that share a key or value are one."""
    if list(front) == [LOGITS]:
        return {"logits": [LOGITS]}
    wiring = runs.wiring
    per = wiring.n_heads // wiring.n_kv_heads
    found = {"q": [parse_node(f"{node}<q>") for node in front]}
    for slot in "kv":
        single = [
            f"{n}<{slot}>" if per == 1 else f"a{n.layer}.g{int(n.index or 0) // per}<{slot}>" for n in front
        ]
        found[slot] = [parse_node(text) for text in dict.fromkeys(single)]
    return found


def _effects(runs: PairedRuns, heads: Sequence[Node], receivers: Sequence[Node]) -> Effects | None:
    """Effects of the heads that some receiver can read; None if there is none."""
    able = [h for h in heads if any(reads(h, r, parallel=runs.wiring.parallel) for r in receivers)]
    return path_patches(runs, able, receivers) if able else None


@dataclass(frozen=True, kw_only=True)
class HeadOverlap:
    """What two sets of heads share, beside what chance would."""

    shared: tuple[str, ...]
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    jaccard: float
    chance: float
    p: float

    @property
    def of(self) -> int:
        """How many heads are in either."""
        return len(self.shared) + len(self.only_here) + len(self.only_there)

    def row(self) -> dict[str, Any]:
        """Say it as one row of a table."""
        numbers = {
            "shared": len(self.shared),
            "of": self.of,
            "Jaccard": self.jaccard,
            "by chance": self.chance,
        }
        return {**numbers, "p": self.p, "heads": ", ".join(self.shared) or "none"}


def overlap(here: Collection[str], there: Collection[str], universe: int) -> HeadOverlap:
    """Shared over all heads of either circuit, what random sets of these sizes share, and how often they reach it.

    Example:
        >>> both = [f"a0.h{i}" for i in range(25)]
        >>> found = overlap([*both, *"abcd"], [*both, *"xyz"], 384)
        >>> f"{found.jaccard:.2f}", len(found.shared), len(found.only_here), len(found.only_there)
        ('0.78', 25, 4, 3)
    """
    here, there = list(dict.fromkeys(here)), list(dict.fromkeys(there))
    shared = tuple(head for head in here if head in set(there))
    return HeadOverlap(
        shared=shared,
        only_here=tuple(head for head in here if head not in shared),
        only_there=tuple(head for head in there if head not in shared),
        jaccard=jaccard(here, there),
        chance=chance_jaccard(len(here), len(there), universe),
        p=hypergeometric_tail(len(shared), universe, len(here), len(there)),
    )


def circuit_if_done(runs: PairedRuns, least: float, **how: Any) -> TaskCircuit:
    """Return a task's heads where the model does the task.

    Args:
        least: Share of prompts with a metric above 0.
        how: What ``task_circuit`` takes.

    Raises:
        TaskError: if it does it on fewer.
        OptionError: if the metric is no better on clean than on corrupted prompts.
    """
    right, task = float((runs.clean > 0).mean()), runs.pairs.pairs.task
    if right < least:
        raise TaskError(
            f"it does {task} on {right:.0%} of prompts; a circuit needs {least:.0%}",
            hint="leave this task out: --set control_tasks=..., or give a model that does it: -m zoo:ioi",
        )
    return task_circuit(runs, **how)


@dataclass(frozen=True, kw_only=True)
class SharedWriters:
    """Heads that write the answers of two tasks (round 1).

    Attributes:
        here, there: Of each task, sorted.
        both: Of both.
        looking: Of these, the heads that also look at the answer in both.
    """

    here: tuple[str, ...]
    there: tuple[str, ...]
    both: tuple[str, ...]
    looking: tuple[str, ...]

    def looking_told(self) -> str:
        """Name the heads that look at the answer in both; where there are none, those that write in both."""
        return ", ".join(self.looking) or f"none; writers of both: {', '.join(self.both) or 'none'}"


def shared_writers(here: TaskCircuit, there: TaskCircuit, looks: Sequence[Collection[str]]) -> SharedWriters:
    """Say which heads write the answers of two tasks, and which of them look at the answer in both.

    Args:
        looks: Of each task, the heads that look at its answer.
    """
    one, two = (tuple(sorted(circuit.rounds[0].kept)) for circuit in (here, there))
    both = tuple(head for head in one if head in two)
    looking = tuple(head for head in both if all(head in seen for seen in looks))
    return SharedWriters(here=one, there=two, both=both, looking=looking)
