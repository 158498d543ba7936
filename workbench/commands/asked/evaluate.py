"""What ``workbench evaluate`` is asked: the circuit, and on which model and task it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import load_circuit
from workbench.commands.asked.inputs import check_opening
from workbench.core.errors import OptionError, RunError, TaskError, check_numbers
from workbench.engine.interventions.words import value_named
from workbench.engine.metric_names import named_in_a_file
from workbench.model.builtin import PREFIX
from workbench.model.known_circuits import load_truth
from workbench.tasks.reading import is_file
from workbench.tasks.registry import get_task

if TYPE_CHECKING:
    from workbench.commands.forms.details import Details
    from workbench.commands.forms.evaluate import Evaluate
    from workbench.commands.forms.why import Why
    from workbench.core.job import Job


@dataclass(frozen=True, kw_only=True)
class CircuitCase:
    """A circuit with the model and the task it is judged on, before anything is opened.

    Attributes:
        is_own: Whether the task is the one it was found on.
        known: Provenance of the circuit.
    """

    circuit: Circuit
    model: str
    task: str
    metric: str
    corruption: str | None
    options: Mapping[str, Any] | None
    is_own: bool

    @property
    def known(self) -> Mapping[str, Any]:
        return self.circuit.provenance


def check_evaluation(asked: Evaluate, job: Job) -> None:
    """Do nothing if the circuit, its model and its task are there; nothing is opened.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    value_named(asked.ablation)
    check_numbers({"random_draws": asked.random_draws})
    case = case_of(asked)
    if asked.full and job.out is None and str(asked.circuit).startswith(PREFIX):
        raise RunError(f"{asked.circuit} has no folder of yours beside it", hint="say where to: --out FOLDER")
    check_opening(**opening_of(case, asked))
    usual = {f.name: f.default for f in fields(type(asked))}
    for name in ("edges", "bootstraps", "refits"):
        if not asked.full and getattr(asked, name) != usual[name]:
            raise OptionError(
                f"--{name} {getattr(asked, name)} is for what --full measures, which is not asked for",
                hint="add --full",
            )
    for name in asked.other_task:
        _check_other(name, full=asked.full)


def _check_other(name: str, *, full: bool) -> None:
    """Do nothing if another task can be looked at.

    Raises:
        WorkbenchError: if there is no such task or file, or specificity is not asked for.
    """
    if not full:
        raise OptionError(f"--other-task {name} is for specificity, which --full measures", hint="add --full")
    if not is_file(name):
        get_task(name)
    elif not Path(name).is_file():
        raise TaskError(f"--other-task: there is no file {name}", hint="workbench task list")


def opening_of(case: CircuitCase, asked: Evaluate) -> dict[str, Any]:
    """Say what opening the runs needs that a circuit is judged on."""
    of_circuit = {name: getattr(case, name) for name in ("model", "task", "metric", "corruption")}
    crosses = {} if case.circuit.shape.tower is None else {"with_tower": True}
    return {**asked.opening(), **of_circuit, **manner_of(case, asked), "work": "edges", **crosses}


def manner_of(case: CircuitCase, asked: Evaluate | Why) -> dict[str, Any]:
    """Say how prompts become tokens: as is asked for, else as where the circuit was found on this model."""
    known = case.known if case.model == case.circuit.model else {}
    first = known.get("prepend_bos")
    found = None if first is None else "on" if first else "off"
    return {"bos": asked.bos or found, "chat": asked.chat or bool(known.get("chat", False))}


def case_of(asked: Details | Evaluate | Why) -> CircuitCase:
    """Return the saved circuit, or the known circuit of a built-in model, with what it says of its own model and
    task.

    Raises:
        RunError: if neither the question nor the circuit names a model and a task.
    """
    text = str(asked.circuit)
    saved = load_truth(text).circuit if text.startswith(PREFIX) else load_circuit(text)
    if asked.task is None and saved.provenance.get("pairs_file"):
        raise RunError(
            f"{asked.circuit} was found on pairs from the file {saved.provenance['pairs_file']}, "
            "which it does not hold",
            hint="name the file: -t FILE.jsonl",
        )
    model, task = asked.model or saved.model, asked.task or saved.task
    if not model or not task:
        raise RunError(f"{asked.circuit} does not say its model and task", hint="give -m MODEL and -t TASK")
    is_own = asked.task is None
    truth = saved.provenance.get("truth", {})  # of a built-in model whose circuit is known
    options = truth.get("options", saved.provenance.get("task_options"))
    own_corruption = truth.get("corruption", saved.provenance.get("corruption")) or None
    return CircuitCase(
        circuit=saved,
        model=model,
        task=task,
        metric=asked.metric or named_in_a_file(saved.metric or "logit-difference"),
        corruption=asked.corruption or (own_corruption if is_own else None),
        # the form of the task belongs to a tokenizer: another model gets the form that it can align
        options=options if is_own and model == saved.model else None,
        is_own=is_own,
    )
