"""Run records on disk: ``run.json`` written when a run starts and when it ends, however it ends; read strictly."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError
from workbench.io.strict_json import check_keys, kind, parse, read_text
from workbench.provenance import FORMAT, NAME, VERSION, RunRecord

STATUSES = ("running", "done", "interrupted", "failed")
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("command", "status", "started", "error", "threads"), str),
    **dict.fromkeys(("arguments", "model", "pairs", "outputs", "versions", "git"), dict),
    **dict.fromkeys(("seconds", "peak_memory_mb"), (int, float, type(None))),
}
_LATER: dict[str, type] = {
    "question": str,
    "hint": str,
    "files": dict,
    "attempts": list,
}  # absent in old files


def load_record(path: str | os.PathLike[str]) -> RunRecord:
    """Read a run record; ``path`` is the file or its folder.

    Raises:
        RunError: if it is missing, cut off, or no run record of a version we know.
    """
    file = Path(path) / NAME if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise RunError(f"no run record at {file}", hint="workbench runs list shows the folders of runs")
    data = parse(read_text(file, error=RunError), where=str(file), error=RunError)
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (FORMAT, VERSION):
        raise RunError(f"{file} is no run record", hint=f"this workbench reads {FORMAT} version {VERSION}")
    try:
        check_keys(data, {"format", "version", *_TYPES}, set(_LATER), str(file))
    except WorkbenchError as problem:
        raise RunError(problem.message, hint=problem.hint) from None
    for name, types in {**_TYPES, **_LATER}.items():
        if name in data and (not isinstance(data[name], types) or isinstance(data[name], bool)):
            raise RunError(f"{file}: {name} is {kind(data[name])}")
    if data["status"] not in STATUSES:
        raise RunError(f"{file}: status is {data['status']!r:.40}; one of {', '.join(STATUSES)} is expected")
    try:
        return RunRecord.from_dict(data)
    except ValueError:
        raise RunError(f"{file}: started is {data['started']!r:.40}, which is no time") from None


@contextmanager
def recording(record: RunRecord, folder: str | os.PathLike[str]) -> Iterator[RunRecord]:
    """Keep the record of a run: ``running`` on disk at once, at the end ``done``, ``interrupted`` or ``failed``.

    The caller holds the folder's lock. What the run put into ``record.outputs`` is digested when it is done. A
    record that can no longer be written (a full disk) stays ``running``, which without a lock means: killed.

    Raises:
        RunError: if the folder holds another run, or cannot be written.
    """
    folder = Path(folder)
    record.attempts = _attempts_before(record, folder)
    for left in folder.glob(".*.tmp"):  # half-written by a process that was killed
        left.unlink(missing_ok=True)
    record.write(folder)
    try:
        yield record
        record.files = {name: digest_of_file(folder / name) for name in record.outputs.values()
                        if (folder / name).is_file()}  # fmt: skip
        record.finish().write(folder)
    except BaseException as problem:
        with suppress(WorkbenchError, OSError):
            _ended_by(record, problem).write(folder)
        raise


def _ended_by(record: RunRecord, problem: BaseException) -> RunRecord:
    if isinstance(problem, KeyboardInterrupt):
        return record.finish("interrupted", error="interrupted from outside", hint="workbench runs resume")
    if isinstance(problem, WorkbenchError):
        return record.finish("failed", error=problem.message, hint=problem.hint)
    return record.finish("failed", error=f"{type(problem).__name__}: {problem}"[:2000])


def _attempts_before(record: RunRecord, folder: Path) -> list[dict[str, Any]]:
    """Earlier starts of the same run in the folder.

    Raises:
        RunError: if another run's record is there, or one that cannot be read.
    """
    if not (folder / NAME).exists():
        return []
    try:
        before = load_record(folder)
    except RunError as problem:
        raise RunError(
            problem.message, hint=f"choose another --out, or rm {folder / NAME} if you know whose it is"
        ) from None
    known = before.question and record.question
    same = before.question == record.question if known else before.command == record.command
    if not same:
        raise RunError(f"{folder} holds another run: {before.command}", hint="choose another --out")
    if before.status == "done":
        return before.attempts
    status = "killed" if before.status == "running" else before.status
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before.started))
    this = {"status": status, "started": started, "seconds": before.seconds, "error": before.error}
    return [*before.attempts, this]


def digest_of_file(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
