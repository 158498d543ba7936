"""What a plan knows of a model and a task: the outline of the one, the aligned pairs of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.commands.asked.inputs import Opening, chosen_options
from workbench.commands.plans.memory import check_budget
from workbench.core.job import Note
from workbench.core.progress import silent
from workbench.model.from_files import reading_of
from workbench.model.opened_file import sealed_reading
from workbench.model.outline import Outline, outline
from workbench.tasks.alignment import AlignedPairs, align
from workbench.tasks.fit import N_PAIRS, fit_pairs
from workbench.tasks.in_memory import given_pairs
from workbench.tasks.reading import is_file, whole_of


@dataclass(frozen=True, kw_only=True)
class PlannedRuns:
    """What a dry run knows: the model's outline and the aligned pairs, no weights."""

    wiring: Outline
    pairs: AlignedPairs
    batch_tokens: int


def planned_runs(*, note: Note = silent, **asked: Any) -> PlannedRuns:
    """Return the pairs as this model's tokenizer reads them, from tokenizer and configuration alone.

    Args:
        asked: The fields of an `Opening`; some of them decide nothing here.

    Raises:
        WorkbenchError: for what is not there, and for a budget of memory that cannot be enough.
    """
    opening = Opening(**asked)
    opening.check()
    if isinstance(opening.metric, str) and ":" in opening.metric:
        _run_file_of(opening.metric)
    pairs = _aligned(opening)
    if pairs.dropped:
        note(f"{len(pairs.dropped)} of {len(pairs.dropped) + len(pairs)} pairs would be dropped")
    origin = {name: value for name, value in opening.origin.items() if name != "trust_remote_code"}
    known = outline(str(opening.model), **origin)
    if opening.max_memory is not None:
        check_budget(opening.max_memory, known, device=opening.device, dtype=opening.dtype, note=note)
    return PlannedRuns(wiring=known, pairs=pairs, batch_tokens=opening.batch_tokens)


def _aligned(opening: Opening) -> AlignedPairs:
    """The pairs as the model's tokenizer reads them."""
    model, task = str(opening.model), str(opening.task)
    usual = sealed_reading(model) or reading_of(model, **opening.origin)
    drawn: dict[str, Any] = {"seed": opening.seed, "corruption": opening.corruption}
    given = given_pairs(task, n=opening.limit, **drawn) if is_file(task) else None
    metric = opening.metric or (given.metric if given is not None else "")
    reading = usual.asked(
        whole_answers=whole_of(metric if isinstance(metric, str) else metric.name), **opening.manner
    )
    if given is not None:
        return align(given, reading.tokenizer, **reading.options)
    typed = chosen_options(task, opening.task_options)
    how = {"split": opening.split, **drawn, **reading.options, **typed}
    return fit_pairs(task, reading.tokenizer, n=opening.limit or N_PAIRS, **how)


def _run_file_of(metric: str) -> None:
    """Run the file that holds a user's metric, as measuring would: what is wrong with it shows now."""
    from workbench.engine.metrics import get_metric  # torch, which such a file needs itself

    get_metric(metric)
