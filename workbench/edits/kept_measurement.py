"""A measurement of an edit kept in a folder: measured, found finished, read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from workbench.core.errors import RunError
from workbench.core.job import Job
from workbench.core.run_file import digest_of_file, load_record
from workbench.core.run_record import NAME as RUN
from workbench.core.run_record import RunRecord
from workbench.core.show import Told
from workbench.edits.measure import Measured
from workbench.edits.measured_file import MEASURED, RESULT
from workbench.engine.store import check_plan, drop_parts


@dataclass(frozen=True, kw_only=True)
class KeptMeasurement(Told):
    """What an edit does, and the folder that says so."""

    measured: Measured
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.measured.to_dict(), "folder": str(self.folder)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return self.measured.to_terminal()


def keep_measurement(
    job: Job, record: RunRecord, plan: Mapping[str, Any], compute: Callable[[Path], Measured]
) -> KeptMeasurement:
    """Measure and keep it in the job's folder with the plan, or show what an equal run kept there.

    Args:
        compute: Called with the folder, where it may keep finished parts; they go when the whole is saved.

    Raises:
        RunError: if the folder holds something else, or finished parts that would be thrown away, or another process
            is writing there.
    """

    def save(kept: KeptMeasurement, folder: Path) -> dict[str, str]:
        MEASURED.save({**kept.measured.to_dict(), "plan": plan}, folder / RESULT)
        return {"measured": RESULT}

    def tidy(folder: Path) -> None:
        drop_parts(folder)
        job.note(f"wrote {folder}: {RESULT}, {RUN}")

    return job.keep(
        Path(str(job.out)),
        record,
        lambda folder: KeptMeasurement(measured=compute(folder), folder=folder),
        save,
        finished=lambda at: finished_measurement(at, record.question),
        begin=lambda at: check_plan(at, plan, resume=job.resume),
        tidy=tidy,
    )


def finished_measurement(folder: Path, question: str) -> KeptMeasurement | None:
    """What an equal earlier run left in a folder; None if there is none, or it did not end well.

    Raises:
        RunError: if the folder holds another measurement, or one that is not as it was written.
    """
    file = folder / RESULT
    if not file.exists():
        return None
    record = load_record(folder) if (folder / RUN).exists() else None
    if record is None or record.question != question:
        raise RunError(f"{file} is another measurement", hint="choose another --out")
    if record.status != "done":
        return None
    if digest_of_file(file) != record.files.get(RESULT):
        raise RunError(f"{file} was changed since it was written", hint=f"to measure it again: rm {file}")
    return KeptMeasurement(measured=load_measured(file), folder=folder)


def load_measured(path: str | Path) -> Measured:
    """Read a ``measured.json``, strictly; ``path`` is the file or its folder.

    Raises:
        RunError: if it is missing, cut off, changed, or of a version we do not know.
    """
    file = Path(path) / RESULT if os.path.isdir(path) else Path(path)
    opened = MEASURED.load(file)
    content = msgspec.to_builtins(opened.content)
    return Measured(
        edit=content["edit"],
        model=content["model"],
        rows=tuple(content["rows"]),
        behaviors=content["behaviors"],
        notes=opened.origin.notes,
    )
