"""What ``workbench circuit details`` is asked: a saved circuit, and on which model and task it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.circuits.files.circuit_file import FILE_NAME, circuit_path
from workbench.circuits.files.details_file import FILE_NAME as DETAILS_NAME
from workbench.circuits.files.details_file import FIRST
from workbench.commands.asked.evaluate import case_of
from workbench.commands.asked.inputs import check_opening
from workbench.core.errors import CircuitError

if TYPE_CHECKING:
    from workbench.commands.forms.details import Details
    from workbench.core.job import Job


def check_details(asked: Details, job: Job) -> None:
    """Do nothing if the circuit, its model and its task are there; nothing is opened.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    file = circuit_path(asked.circuit)
    if file.name != FILE_NAME:
        raise CircuitError(
            f"{asked.circuit} is not in a folder of its own, so details have no place beside it",
            hint=f"save it as FOLDER/{FILE_NAME}; workbench circuit prune CIRCUIT -o FOLDER writes a copy",
        )
    if asked.ablation != FIRST and not (file.parent / DETAILS_NAME).is_file():
        raise CircuitError(
            f"effects under {asked.ablation} ablation stand beside those of {DETAILS_NAME}, which is not there",
            hint=f"first: workbench circuit details {asked.circuit}",
        )
    check_opening(**opening_of(asked))


def opening_of(asked: Details) -> dict[str, Any]:
    """Say what opening the runs needs."""
    case = case_of(asked)
    of_circuit = {name: getattr(case, name) for name in ("model", "task", "metric", "corruption", "options")}
    crosses = {} if case.circuit.shape.tower is None else {"with_tower": True}
    return {**asked.opening(), **of_circuit, "work": "edges", **crosses}
