"""The command ``edit measure`` as a function: open, measure, and where a folder is named keep table and record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.commands.forms.edit import MeasureEdit
from workbench.commands.inputs import record_of, tell_dropped
from workbench.core.errors import RunError
from workbench.core.job import Job
from workbench.core.progress import silent
from workbench.core.run_record import code_versions, digest_of
from workbench.core.source_digest import source_digest
from workbench.core.strict_json import read_text
from workbench.edits.edit import EDITS, ModelEdit, kinds_in
from workbench.edits.file import content_digest, open_edit
from workbench.edits.kept_measurement import (
    KeptMeasurement,
    finished_measurement,
    keep_measurement,
    load_measured,
)
from workbench.edits.measure import CHANGES, Measured, measure_edit, windows_of
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.told import tell_behavior
from workbench.model.identity import identity
from workbench.model.open import open_model


def _nowhere(name: str) -> Tensor:
    """Where a named position is while no prompt is run."""
    return torch.zeros(0, dtype=torch.long)


def measure(asked: MeasureEdit, job: Job) -> Measured | KeptMeasurement:
    """Return a saved edit on a model: what it does to a task, to other tasks beside it, to a file of text.

    With ``out`` the table and the record are kept there; an equal run that is finished is shown, not repeated.

    Raises:
        RunError: if the edit cannot be read, the folder holds something else, or another process is writing there.
        ModelError: if the edit cannot hold on this model.
    """
    saved, origin = open_edit(asked.edit)
    for said in origin.notes:
        job.note(said)
    words = None if asked.text is None else read_text(asked.text, error=RunError)
    opened = open_model(asked.model, **asked.opening())
    with saved.on(opened, at=_nowhere, decode_from=0):  # refused before any prompt is made
        pass
    how: dict[str, Any] = {"n": asked.limit, "split": asked.split, "seed": asked.seed}
    runs = {name: paired_runs(opened, name, **how) for name in (asked.task, *asked.beside)}
    for own in runs.values():
        tell_dropped(own, job.note)
    windows = None if words is None else windows_of(opened, words, length=asked.window)
    others = {name: own for name, own in runs.items() if name != asked.task}
    record = record_of(asked, runs[asked.task])

    def compute(folder: Path | None = None) -> Measured:
        for name, own in runs.items():
            record.behaviors[name] = next(iter(tell_behavior(own, job.note, what=CHANGES).values()))
        return measure_edit(
            saved,
            runs[asked.task],
            name=asked.task,
            beside=others,
            text=windows,
            seed=asked.seed,
            progress=job.progress or silent,
        )

    if job.out is None:
        return compute()
    read = None if words is None else {"digest": digest_of(words), "window": asked.window}
    plan = {**_plan(saved, runs), "text": read, "seed": asked.seed}
    record.question = digest_of(plan)
    return keep_measurement(job, record, plan, compute)


def _plan(edit: ModelEdit, runs: Mapping[str, PairedRuns]) -> dict[str, Any]:
    """What decides the numbers: the edit, the weights and how they are used, the prompts, the code."""
    known = identity(next(iter(runs.values())).model)
    kinds = {*map(EDITS.get, EDITS.ours()), *kinds_in(edit)}
    modules = sorted(
        {"workbench.edits.measure", "workbench.edits.install", *(kind.module() for kind in kinds)}
    )
    return {
        "edit": content_digest(edit),
        "weights": known.digest,
        "config": known.config_digest,
        "dtype": known.dtype,
        "device": known.device,
        "pairs": {name: own.pairs.pairs.digest for name, own in runs.items()},
        "code": {
            **code_versions(),
            "sources": source_digest(*modules),
        },
    }


__all__ = ["KeptMeasurement", "finished_measurement", "keep_measurement", "load_measured", "measure"]
