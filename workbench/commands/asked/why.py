"""What ``workbench circuit why`` is asked: the edge, and the model and task, its own or those of a circuit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.circuits.addresses import parse_edge
from workbench.commands.asked.evaluate import case_of, manner_of
from workbench.commands.asked.inputs import check_addresses, check_opening, check_positions
from workbench.core.errors import OptionError

if TYPE_CHECKING:
    from workbench.commands.forms.why import Why
    from workbench.core.job import Job


def check_why(asked: Why, job: Job) -> None:
    """Do nothing if the edge, the model, the task and the position are there; nothing is opened.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    edge = parse_edge(asked.edge)
    known = edge.target.slot in ("q", "k", "v") or edge.target.kind == "mlp" or str(edge.target) == "logits"
    if not known:
        raise OptionError(
            f"{asked.edge!r} ends at {edge.target}, which is no query, key or value of a head and no MLP",
            hint="name the input that is read: a5.h5->a9.h9<q>, <k> or <v>; a5.h5->m6; or a9.h9->logits",
        )
    opening = opening_of(asked)
    check_opening(**opening)
    check_addresses([str(edge.source), str(edge.target)], opening["model"], offline=asked.offline)
    if asked.at is not None:
        check_positions(opening["task"], [asked.at])


def opening_of(asked: Why) -> dict[str, Any]:
    """Say what opening the runs needs.

    Raises:
        OptionError: if neither a circuit nor the options say model and task.
    """
    own = {**asked.opening(), "work": "edges"}
    if asked.circuit is None:
        if not asked.model or not asked.task:
            raise OptionError(
                "no model and task are named", hint="give -m MODEL and -t TASK, or a circuit's folder"
            )
        return {**own, "model": asked.model, "task": asked.task}
    case = case_of(asked)
    return {
        **own,
        "model": case.model,
        "task": case.task,
        "metric": case.metric,
        "corruption": case.corruption,
        "options": case.options,
        **manner_of(case, asked),
    }
