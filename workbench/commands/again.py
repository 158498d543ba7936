"""A run once more, from its record alone: continued where it stopped, or repeated into another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.commands.do import carry_out
from workbench.core.bounds import exists
from workbench.core.command import COMMANDS
from workbench.core.errors import RunError
from workbench.core.job import Job, Note
from workbench.core.plugins import what_changed
from workbench.core.progress import Progress
from workbench.core.run_record import RunRecord, git_state, versions
from workbench.engine.run_folders.consent import Consent
from workbench.engine.run_folders.past_runs import PastRun, look_at


def resume(
    folder: str | Path,
    *,
    consent: Consent | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Any | None:
    """Continue the run in a folder; None if it is finished.

    Args:
        consent: Which code that the record names may run; by default none.

    Raises:
        RunError: if it is running, has no record, names code that nobody consented to, or was written by a
            version that asked differently.
    """
    found = look_at(folder)
    if found.state == "finished":
        note(f"{folder} is finished; nothing to resume")
        return None
    if found.state == "running":
        raise RunError(f"process {found.holder or 'unknown'} is writing {folder}", hint="wait for it")
    record = _record(found)
    if record.command in COMMANDS and not COMMANDS.get(record.command).declared.resumes:
        note(f"{record.command} keeps no finished parts: it starts over in {folder}")
    _say_what_changed(record, note)
    return call(record, Path(folder), resume=True, consent=consent, progress=progress, note=note)


def rerun(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    consent: Consent | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> tuple[Path, Any]:
    """Repeat the run of a folder into another one, which must be new or empty; gives that folder and the result.

    Args:
        out: By default the folder's name with ``-again``.
        consent: Which code that the record names may run; by default none.

    Raises:
        RunError: if there is no record, it names code that nobody consented to, or the other folder has something
            in it.
    """
    record = _record(look_at(folder))
    to = _beside(Path(folder)) if out is None else Path(out)
    if exists(to) and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to} is not empty; a rerun overwrites nothing", hint="choose another --out")
    _say_what_changed(record, note)
    return to, call(record, to, resume=False, consent=consent, progress=progress, note=note)


def _record(found: PastRun) -> RunRecord:
    if found.record is None:
        problem = found.error or "has no run.json, which says what was asked"
        raise RunError(
            f"{found.folder} {problem}" if not found.error else problem,
            hint=found.hint or "start its command again; sweeps take --resume --out FOLDER",
        )
    if found.state == "changed":  # it may name anything: only what was written as one run is run again
        raise RunError(found.error, hint=found.hint)
    return found.record


def _beside(folder: Path) -> Path:
    """``FOLDER-again``, ``FOLDER-again-2`` ...: the first that is not there."""
    n, path = 1, folder.with_name(f"{folder.name}-again")
    while path.exists():
        n, path = n + 1, folder.with_name(f"{folder.name}-again-{n + 1}")
    return path


def _say_what_changed(record: RunRecord, note: Note) -> None:
    """Versions and code that are not those of the record: numbers may move for that reason alone."""
    for name, version in versions().items():
        known = record.versions.get(name)
        if known not in (None, version):
            note(f"{name} was {known}, now {version}")
    for said in what_changed(record.plugins):
        note(said)
    before, now = record.git.get("commit"), git_state().get("commit")
    if before and now and before != now:
        note(f"the code was at {before[:12]}, now {now[:12]}")


def call(
    record: RunRecord,
    folder: Path,
    *,
    resume: bool,
    consent: Consent | None = None,
    progress: Progress | None,
    note: Note,
) -> Any:
    """Carry out the command of a record with the recorded options.

    Raises:
        RunError: for a command that is not known here, options that it does not take, or code that nobody
            consented to.
    """
    (consent or Consent()).check(record.arguments, record.plugins)
    if record.command not in COMMANDS or not COMMANDS.get(record.command).declared.keeps:
        raise RunError(
            f"{record.command} cannot be repeated from its record",
            hint="workbench runs show has the line to type",
        )
    form = COMMANDS.get(record.command)
    asked = form.from_record(record.arguments, f"the record of {folder}")
    place: dict[str, Any] = {**form.place(folder, resume=resume)}
    return carry_out(asked, Job(**place, resume=resume, progress=progress, note=note))
