"""Circuits of several tasks on one model: which heads they share, and why some tasks have none.

Source: Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.core.claims import Quantity
from workbench.core.errors import TaskError, WorkbenchError
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.roles import attention_to
from workbench.heads import rounds


@dataclass(frozen=True, kw_only=True)
class TaskCircuits:
    """The heads of several tasks, by the name of each.

    Attributes:
        looks: Of tasks whose answer has a position: the heads that look at it.
        reasons: Of tasks without a circuit: why.
    """

    circuits: dict[str, rounds.TaskCircuit] = field(default_factory=dict)
    looks: dict[str, set[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per task, round and head kept."""
        return [{"task": name} | row for name, one in self.circuits.items() for row in one.rows()]

    def of(self, name: str) -> rounds.TaskCircuit:
        """Return the heads of a task.

        Raises:
            TaskError: if it has no circuit, with the reason.
        """
        if name not in self.circuits:
            why = self.reasons.get(name, f"no circuit of {name} was asked for")
            raise TaskError(why, hint=f"the tasks with circuits are {', '.join(self.circuits) or 'none'}")
        return self.circuits[name]

    def shared_with(self, name: str) -> dict[str, rounds.HeadOverlap]:
        """Say of every other task what heads it shares with this one."""
        own = self.of(name)
        others = {task: one for task, one in self.circuits.items() if task != name}
        return {task: rounds.overlap(own.heads, one.heads, own.n_heads) for task, one in others.items()}

    def writers(self, here: str, there: str) -> rounds.SharedWriters:
        """Say which heads write the answers of two tasks, and which of them look at the answer in both."""
        circuits = self.of(here), self.of(there)
        return rounds.shared_writers(*circuits, [self.looks[here], self.looks[there]])

    def compared(self, here: str, there: str, *, again: str = "") -> dict[str, Quantity]:
        """Return what two tasks share, beside chance and beside all others; and the writers that look in both.

        Args:
            again: The first task on other prompts, the most that can be shared.

        Raises:
            TaskError: if one of the two has no circuit.
        """
        wrote, shared = self.writers(here, there), self.shared_with(here)
        mine, same = shared.pop(there), shared.pop(again, None)
        chance = f"chance {mine.chance:.2f}" + (f"; {again} {same.jaccard:.2f}" if same else "")
        most = max((one.jaccard for one in shared.values()), default=None)
        told = f"writers of {here} {', '.join(wrote.here)}; of {there} {', '.join(wrote.there)}"
        return {
            "overlap of both circuits": Quantity(mine.jaccard, mine.of, chance, mine.p),
            "largest overlap of a control task": Quantity(
                most,
                len(shared),
                ", ".join(f"{name} {one.jaccard:.2f}" for name, one in shared.items()),
                why="the model does none of the control tasks",
            ),
            "heads that write and look at the answer in both": Quantity(
                len(wrote.looking), len({*wrote.here, *wrote.there}), told
            ),
        }


def circuits_of_tasks(
    runs: Mapping[str, Callable[[], PairedRuns]],
    *,
    least: float = 0.9,
    answers: Mapping[str, str],
    looks: float = 0.3,
    begin: Callable[[PairedRuns], PairedRuns] = lambda runs: runs,
    **how: Any,
) -> TaskCircuits:
    """Find the heads of several tasks; a task that the model does not do has a reason in their place.

    Args:
        runs: By name, what makes the pairs of a task.
        least: Share of prompts right that a circuit needs.
        answers: By name, the position that holds the answer.
        looks: Least mean attention that makes a position what a head looks at.
        begin: What is done with the pairs of each task first, such as to say what the model does on them.
        how: What ``task_circuit`` takes.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:truth-induction")
        >>> runs = {task: lambda task=task: wb.paired_runs(model, task, n=4) for task in ("induction", "ioi")}
        >>> found = circuits_of_tasks(runs, answers={}, rounds=1, at_least=1)
        >>> found.circuits["induction"].heads, list(found.reasons)
        (('a1.h0',), ['ioi'])
    """
    found = TaskCircuits()
    for name, make in runs.items():
        try:
            pairs = begin(make())
            found.circuits[name] = rounds.circuit_if_done(pairs, least, **how)
        except WorkbenchError as problem:
            found.reasons[name] = problem.message.split("\n")[0]
            continue
        if name in answers:
            at = attention_to(pairs, answers[name])
            found.looks[name] = {head for head, value in at.items() if value >= looks}
    return found
