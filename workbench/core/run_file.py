"""Run records on disk: ``run.json`` written when a run starts and when it ends, however it ends; read strictly."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from msgspec import Meta, field, to_builtins

from workbench.core.atomic import file_at
from workbench.core.behavior_part import BehaviorPart
from workbench.core.bounds import exists, open_regular, refuse_links
from workbench.core.errors import RunError, WorkbenchError
from workbench.core.file_kind import FileKind, Origin
from workbench.core.run_record import NAME, TIME, RunRecord
from workbench.core.show import saves
from workbench.core.typed import Count, Part, Sha256

INNER = ("shards", "parts", "steps", "tables", "cells", "pictures")  # folders that runs make in theirs
_TIME_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Name = Annotated[str, Meta(min_length=1, max_length=1000)]


class RecordedFile(Part, frozen=True):
    """A file as it was when the run was done."""

    bytes: Count
    sha256: Sha256


class Attempt(Part, frozen=True):
    """An earlier start in the folder that did not finish."""

    status: Literal["killed", "interrupted", "failed"]
    started: str
    seconds: Seconds | None
    error: str


class PluginPart(Part, frozen=True):
    """Somebody's code that ran in the process."""

    plugin: Annotated[Name, Meta(description="a package, or what followed --plugin")]
    version: Annotated[str, Meta(max_length=200, description="of a package")] = ""
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$", description="of a file that was named")] = ""


class RunContent(Part, frozen=True):
    """A command and its options, the model and prompts it used, the files it wrote, and how it ended."""

    command: Annotated[str, Meta(min_length=1, max_length=200, description="as typed after `workbench`")]
    arguments: Annotated[dict[str, Any], Meta(description="every option of the command, given or default")]
    model: Annotated[dict[str, Any], Meta(description="which weights: name, revision, digest, dtype, device")]
    pairs: Annotated[
        dict[str, Any], Meta(description="which prompts: task, split, seed, digest, what was dropped")
    ]
    status: Literal["running", "done", "interrupted", "failed"]
    error: str
    started: Annotated[str, Meta(extra_json_schema={"pattern": _TIME_PATTERN})]
    seconds: Seconds | None
    peak_memory_mb: Annotated[Seconds | None, Meta(description="10^6 bytes")]
    outputs: Annotated[dict[str, Name], Meta(description="what is where in the folder")]
    versions: dict[str, str]
    git: dict[str, Any]
    threads: str
    question: Annotated[
        str, Meta(description="digest of what decides the numbers; empty where not known before")
    ] = ""
    hint: str = ""
    files: Annotated[
        dict[str, RecordedFile], Meta(description="size and SHA-256 of every file of the outputs")
    ] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    behaviors: Annotated[
        dict[str, BehaviorPart],
        Meta(description="what the model itself does, by the pairs it was looked at on"),
    ] = field(default_factory=dict)
    plugins: Annotated[list[PluginPart], Meta(description="code that ran besides the workbench's")] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        try:
            time.strptime(self.started, TIME)
        except ValueError:
            raise ValueError(f"started is {self.started!r:.40}, which is no time") from None
        for name in (*self.outputs.values(), *self.files):
            if not _is_beside(name):
                raise ValueError(
                    f"it names a file {name!r:.80}, which is in neither this folder nor the one above"
                )


def _is_beside(name: str) -> bool:
    """Whether a relative name stays in the folder of a record, or in the one above it."""
    parts = PurePosixPath(name).parts
    inside = parts[1:] if parts[:1] == ("..",) else parts
    return bool(inside) and not name.startswith("/") and ".." not in inside and "\0" not in name


RUN_FILE = FileKind(
    format="circuit-workbench/run",
    content=RunContent,
    what="a run record",
    again="workbench runs show FOLDER has the line to type for the same run",
)


def load_record(path: str | os.PathLike[str]) -> RunRecord:
    """Read a run record; ``path`` is the file or its folder.

    Raises:
        RunError: if it is missing, cut off, no run record of a version we know, or was changed since it was written.
    """
    record, origin = read_record(path)
    RUN_FILE.say(origin)
    return record


def read_record(path: str | os.PathLike[str]) -> tuple[RunRecord, Origin]:
    """Return a run record, and whether it is as it was written.

    Raises:
        RunError: if it is missing, cut off, or no run record of a version we know.
    """
    file = Path(path) / NAME if os.path.isdir(path) else Path(path)
    if not exists(file):
        raise RunError(f"no run record at {file}", hint="workbench runs list shows the folders of runs")
    opened = RUN_FILE.open(file)
    return RunRecord.from_dict(to_builtins(opened.content)), opened.origin


@saves(RunRecord)
def write_record(record: RunRecord, path: str | os.PathLike[str]) -> Path:
    """Write a run record, whole or not at all; a path without ``.json`` is a folder: its ``run.json``."""
    return RUN_FILE.save(record.to_dict(), file_at(path, NAME), indent=2)


@contextmanager
def recording(record: RunRecord, folder: str | os.PathLike[str]) -> Iterator[RunRecord]:
    """Keep the record of a run: ``running`` on disk at once, at the end ``done``, ``interrupted`` or ``failed``.

    The caller holds the folder's lock. What the run put into ``record.outputs``, files or folders of files, is
    digested when it is done. A
    record that can no longer be written (a full disk) stays ``running``, which without a lock means: killed.

    Raises:
        RunError: if the folder holds another run, or cannot be written.
    """
    folder = Path(folder)
    refuse_links(folder, INNER)
    record.attempts = _attempts_before(record, folder)
    remove_half_written(folder)
    write_record(record, folder)
    try:
        yield record
        record.files = {
            name: digest_of_file(folder / name) for name in files_of(folder, record.outputs.values())
        }
        write_record(record.finish(), folder)
    except BaseException as problem:
        with suppress(WorkbenchError, OSError):
            write_record(_ended_by(record, problem), folder)
        raise


def files_of(folder: Path, outputs: Iterable[str]) -> list[str]:
    """Return the files that outputs stand for: those that they name, and those in folders that they name."""
    found: dict[str, None] = {}
    for name in outputs:
        place = folder / name
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        names = [name if path == place else f"{name}/{path.relative_to(place).as_posix()}" for path in inside]
        found |= {n: None for n, path in zip(names, inside, strict=True) if _is_result(path)}
    return list(found)


def _is_result(path: Path) -> bool:
    """A regular file that is no lock and not half-written."""
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def remove_half_written(folder: Path) -> None:
    """Remove what a process that was killed was writing, in a folder and in those that runs make in theirs.

    The caller holds the folder's lock: nobody else is writing there.
    """
    for place in (folder, *(folder / name for name in INNER)):
        for left in place.glob(".*.tmp"):
            left.unlink(missing_ok=True)


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
        other = "what decides its numbers (model, pairs, metric, options) is not what is asked now"
        raise RunError(
            f"{folder} holds another run: {before.command}" + (f"; {other}" if known else ""),
            hint="choose another --out",
        )
    if before.status == "done":
        return before.attempts
    status = "killed" if before.status == "running" else before.status
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before.started))
    this = {"status": status, "started": started, "seconds": before.seconds, "error": before.error}
    return [*before.attempts, this]


def digest_of_file(path: Path) -> dict[str, Any]:
    """Return the size in bytes and SHA-256 of a file.

    Raises:
        RunError: if it cannot be read, or is no regular file.
    """
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as source:
        while block := source.read(1 << 20):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
