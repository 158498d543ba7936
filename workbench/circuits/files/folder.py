"""The circuits of a folder, ``<task>/<model>/<method>-<digest>/circuit.json``, broken ones included."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from workbench.circuits.behavior import short_of
from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import FILE_NAME, circuit_path, read_circuit
from workbench.circuits.files.evaluation_file import find_evaluation
from workbench.circuits.files.scores_file import FILE_NAME as SCORES_NAME
from workbench.circuits.files.scores_file import load_scores
from workbench.core.errors import CircuitError, WorkbenchError
from workbench.core.file_kind import State


@dataclass(frozen=True, kw_only=True)
class FoundCircuit:
    """One circuit file: the circuit, or what is wrong with it.

    Attributes:
        state: Whether the file is ``as written``, ``changed``, of version 1 with ``no digest``, or ``unreadable``.
        note: What is to be said of that, in a sentence.
        problem, hint: What is wrong with it, or with the scores or the evaluation beside it.
    """

    path: Path
    circuit: Circuit | None
    state: State | Literal["unreadable"] = "as written"
    note: str = ""
    problem: str = ""
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether it, and what lies beside it, can be read and is not changed."""
        return not self.problem and self.state in ("as written", "no digest")

    def to_dict(self) -> dict[str, Any]:
        """Path, what it is and how large; ``problem`` is empty when the file is good."""
        row: dict[str, Any] = {"path": str(self.path), "state": self.state, "note": self.note}
        row |= {"problem": self.problem, "hint": self.hint}
        if self.circuit is None:
            return row
        names = ("task", "model", "method", "level")
        found = {name: getattr(self.circuit, name) for name in names}
        faithful = self.circuit.evaluation.get("faithfulness")
        return (
            row
            | found
            | {
                "nodes": self.circuit.n_nodes,
                "edges": self.circuit.n_edges,
                "does_task": short_of(_findings(self.circuit.evaluation)),
                "faithfulness": faithful if isinstance(faithful, int | float) else None,
            }
        )


def _findings(evaluation: Mapping[str, Any]) -> list[str]:
    """What was found of the model itself, on the pairs of a circuit."""
    told = (evaluation.get(name) for name in ("behavior", "behavior_found_on"))
    return [str(one["finding"]) for one in told if isinstance(one, Mapping) and "finding" in one]


def find_circuits(folder: str | os.PathLike[str]) -> list[FoundCircuit]:
    """Return every ``circuit.json`` in a folder and the folders in it, by path; links to folders are not followed.

    Raises:
        CircuitError: if there is no such folder.
    """
    root = Path(folder)
    if not os.path.isdir(root):
        raise CircuitError(
            f"no folder {root}", hint="workbench discover makes circuits; or name the folder that has some"
        )
    return [check(path) for path in sorted(_walk(root))]


def _walk(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root, followlinks=False):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if FILE_NAME in files:
            yield Path(folder) / FILE_NAME


def check(path: str | os.PathLike[str], *, evaluation: bool = False) -> FoundCircuit:
    """Read a circuit file and the scores beside it, if any; what is wrong is returned, not raised.

    Args:
        evaluation: Also read the evaluation beside it and compute its verdicts again.
    """
    file = circuit_path(path)
    try:
        circuit, origin = read_circuit(file)
    except WorkbenchError as problem:
        return FoundCircuit(
            path=file, circuit=None, state="unreadable", problem=problem.message, hint=problem.hint
        )
    found = FoundCircuit(path=file, circuit=circuit, state=origin.state, note=origin.note)
    try:
        if file.name == FILE_NAME and os.path.lexists(file.parent / SCORES_NAME):
            _check_scores(circuit, file.parent / SCORES_NAME)
        if evaluation:
            find_evaluation(file, circuit)
    except WorkbenchError as problem:
        return replace(found, problem=problem.message, hint=problem.hint)
    return found


def _check_scores(circuit: Circuit, path: Path) -> None:
    shape = load_scores(path).graph.shape
    if shape != circuit.shape:
        raise CircuitError(
            f"{path} has scores of another architecture than the circuit beside it",
            hint="remove the file of scores, or put back the one that was written with this circuit",
        )
