"""What a plan knows of a model and a task: the outline of the one, the aligned pairs of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.commands.asked.inputs import check_opening, chosen_options
from workbench.commands.plans.memory import check_budget
from workbench.core.job import Note
from workbench.core.progress import silent
from workbench.model.from_files import reading_of
from workbench.model.opened_file import sealed_reading
from workbench.model.outline import Outline, outline
from workbench.model.settings import BATCH_TOKENS
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.fit import N_PAIRS, fit_pairs
from workbench.tasks.in_memory import given_pairs
from workbench.tasks.reading import align_for, is_file


@dataclass(frozen=True, kw_only=True)
class PlannedRuns:
    """What a dry run knows: the model's outline and the aligned pairs, no weights."""

    wiring: Outline
    pairs: AlignedPairs
    batch_tokens: int


def planned_runs(
    *,
    model: str,
    task: str,
    metric: str | None = None,
    limit: int | None = None,
    split: str = "test",
    corruption: str | None = None,
    seed: int = 0,
    task_options: Sequence[str] = (),
    batch_tokens: int = BATCH_TOKENS,
    revision: str | None = None,
    offline: bool | None = None,
    device: str | None = None,
    dtype: str = "float32",
    max_memory: int | str | None = None,
    trust_remote_code: bool = False,
    note: Note = silent,
    **unused: Any,
) -> PlannedRuns:
    """Return the pairs as this model's tokenizer reads them, from tokenizer and configuration alone.

    ``unused`` are the options of the run that decide nothing here.

    Raises:
        WorkbenchError: for what is not there, and for a budget of memory that cannot be enough.
    """
    placed: dict[str, Any] = {"device": device, "dtype": dtype, "max_memory": max_memory}
    check_opening(
        model=model, task=task, metric=metric, split=split, corruption=corruption, **placed, **unused
    )
    if metric is not None and ":" in metric:
        _run_file_of(metric)
    whose: dict[str, Any] = {"revision": revision, "offline": offline or None}
    reading = sealed_reading(model) or reading_of(model, **whose, trust_remote_code=trust_remote_code)
    drawn: dict[str, Any] = {"seed": seed, "corruption": corruption}
    if is_file(task):
        pairs = align_for(given_pairs(task, n=limit, **drawn), reading)
    else:
        how = {"split": split, **drawn, **reading.options, **chosen_options(task, task_options)}
        pairs = fit_pairs(task, reading.tokenizer, n=limit or N_PAIRS, **how)
    if pairs.dropped:
        note(f"{len(pairs.dropped)} of {len(pairs.dropped) + len(pairs)} pairs would be dropped")
    known = outline(model, **whose)
    if max_memory is not None:
        check_budget(max_memory, known, device=device, dtype=dtype, note=note)
    return PlannedRuns(wiring=known, pairs=pairs, batch_tokens=batch_tokens)


def _run_file_of(metric: str) -> None:
    """Run the file that holds a user's metric, as measuring would: what is wrong with it shows now."""
    from workbench.engine.metrics import get_metric  # torch, which such a file needs itself

    get_metric(metric)
