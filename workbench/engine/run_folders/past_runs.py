"""The folders that commands wrote, found and read: what was run, whether it ended, how large it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.behavior import short_of
from workbench.circuits.files.shard_file import NAME as SHARD
from workbench.circuits.files.shard_file import load_shard
from workbench.core.errors import RunError
from workbench.core.lock import NAME as LOCK
from workbench.core.lock import holder
from workbench.core.run_file import RUN_FILE, digest_of_file, read_record
from workbench.core.run_record import NAME, RunRecord
from workbench.core.show import Told
from workbench.engine.run_folders.command_line import command_line
from workbench.engine.store import PLAN, SHARDS, finished_parts

ROOTS = (Path("runs"), Path("circuits"))
UNFINISHED = "-unfinished-"  # in the name of the folder of a search whose circuit is not known yet
# What a run leaves before it has a record, or without one; a circuit by itself is no run.
_TRACES = (PLAN, SHARDS, LOCK, "scores.safetensors", "effects.parquet", "cells", "replication.json")
SURVEY = "survey.json"  # in a folder whose runs lie in folders of their own
_INSIDE = {SHARDS, "parts", "steps", "tables", "cells", "pictures"}  # parts of a run, never runs
_SENTENCES = {
    "finished": "finished",
    "running": "is running in process {holder}",
    "interrupted": "was interrupted",
    "failed": "failed: {error}",
    "incomplete": "finished, but a file of it is missing",
    "killed": "was killed: its record says running, and no process holds the folder",
    "no record": "has files of a run but no run.json: it was killed before it could save, or the record was removed",
    "changed": "has a record that was changed since it was written: {error}",
    "unreadable": "has a record that cannot be read: {error}",
}


@dataclass(frozen=True, kw_only=True)
class PastRun(Told):
    """A run's folder.

    ``state`` is finished, running, interrupted, failed, killed, incomplete (a file is missing), no record,
    changed (the record is not as it was written) or unreadable.
    """

    folder: Path
    state: str
    record: RunRecord | None = None
    error: str = ""
    hint: str = ""
    holder: int | None = None

    @property
    def what(self) -> str:
        """The command and what tells its runs apart."""
        if self.record is None:
            return ""
        given = self.record.arguments
        of = f" of {self.shard_of}" if self.shard_of else ""
        share = f": shard {_one_line(given['shard'])}{of}" if given.get("shard") else ""
        names = ("study", "replication", "method", "ablation", "site", "receiver", "query")
        told = next((given[name] for name in names if given.get(name)), "")
        words = ", ".join(_one_line(x) for x in (told if isinstance(told, list) else [told]))
        return f"{self.record.command} {words}".strip() + share

    @property
    def shard_of(self) -> Path | None:
        """The folder of the run that this is a shard of; None if it is none, or lies by itself."""
        sharded = self.record is not None and self.record.arguments.get("shard")
        return self.folder.parent if sharded and self.folder.name.startswith("shard-") else None

    @property
    def bytes(self) -> int:
        """Size on disk; links are not followed."""
        return sum(path.lstat().st_size for path in files_in(self.folder))

    @property
    def next(self) -> str:
        """What to type to get on; empty when there is nothing to do."""
        if self.state in ("interrupted", "killed", "failed", "incomplete"):
            return f"workbench runs resume {self.folder}"
        return "start the command again, or remove the folder" if self.state == "no record" else ""

    def row(self) -> dict[str, Any]:
        """Return one line of the list."""
        record = self.record
        return {
            "folder": str(self.folder),
            "what": self.what,
            "shard_of": None if self.shard_of is None else str(self.shard_of),
            "model": _name(record, "model", "name"),
            "task": _name(record, "pairs", "task"),
            "does_task": short_of(b["finding"] for b in record.behaviors.values()) if record else "",
            "status": self.state,
            "when": None if record is None else record.to_dict()["started"],
            "seconds": None if record is None else record.seconds,
            "bytes": self.bytes,
            "problem": self.error,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything recorded, the command as a line to type, and whether the files are as they were written."""
        record = None if self.record is None else self.record.to_dict()
        line = "" if self.record is None else command_line(self.record)
        return {
            **self.row(),
            "state": _SENTENCES[self.state].format(holder=self.holder or "unknown", error=self.error),
            "hint": self.hint,
            "next": self.next,
            "command_line": line,
            "finished_parts": len(finished_parts(self.folder)),
            "files": self.files(),
            "record": record,
        }

    def files(self) -> list[dict[str, Any]]:
        """Return the files that the record names: as written, changed since, or missing."""
        known = {} if self.record is None else self.record.files
        return [
            {"file": name, "bytes": was.get("bytes"), "now": _compared(self.folder / name, was)}
            for name, was in known.items()
        ]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        shown = self.to_dict()
        record = shown["record"] or {}
        lines = [f"{self.folder} {shown['state']}"]
        lines += [f"  hint: {self.hint}"] if self.hint else []
        lines += [f"  next: {self.next}"] if self.next else []
        facts = {k: shown[k] for k in ("what", "model", "task", "when")}
        facts["took"] = duration(shown["seconds"])
        facts["on disk"] = size(shown["bytes"])
        facts["unfinished parts"] = shown["finished_parts"] if self.state != "finished" else 0
        told = {k: v for k, v in facts.items() if v not in (None, "", 0)}
        parts: list[Any] = [
            "\n".join(lines),
            *([shown["command_line"]] if shown["command_line"] else []),
            told,
        ]
        for name in ("arguments", "model", "pairs", "versions", "git"):
            if record.get(name):
                parts += [name, {k: _short(v) for k, v in record[name].items()}]
        parts += ["plug-ins", record["plugins"]] if record.get("plugins") else []
        parts += ["earlier attempts", record["attempts"]] if record.get("attempts") else []
        return [*parts, *(["files", shown["files"]] if shown["files"] else [])]


def _short(value: Any) -> str:
    """A value of the record on one line; a long list as its length."""
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} entries"
    return str(value)


def _name(record: RunRecord | None, part: str, name: str) -> str:
    if record is None:
        return ""
    return _one_line(
        getattr(record, part).get(name) or record.arguments.get(part if part == "model" else name) or ""
    )


def _one_line(value: object, most: int = 200) -> str:
    """A value of a record, whatever it is, as a text that a list has room for."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _compared(path: Path, was: dict[str, Any]) -> str:
    """Whether a file is as the record says; a name that no file can have is missing."""
    try:
        if not path.is_file():
            return "missing"
        return "as written" if digest_of_file(path) == was else "changed since"
    except OSError as problem:
        return f"unreadable: {problem.strerror or problem}"


def _is_there(path: Path) -> bool:
    """Whether there is such a file or folder; a name that is too long for one is none."""
    try:
        return path.exists()
    except OSError:
        return False


def look_at(folder: str | os.PathLike[str]) -> PastRun:
    """Say what became of the run in a folder.

    Raises:
        RunError: if there is no such folder, or no run has been in it.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise RunError(f"no folder {folder}", hint="workbench runs list shows the folders of runs")
    if not os.access(folder, os.R_OK | os.X_OK):
        return PastRun(folder=folder, state="unreadable", error=f"{folder} may not be read by this user")
    if not (folder / NAME).exists():
        if not any((folder / trace).exists() for trace in _TRACES):
            raise RunError(f"{folder} holds no run", hint="workbench runs list shows the folders of runs")
        who = writer_of(folder)
        return PastRun(folder=folder, state="no record" if who is None else "running", holder=who)
    return _recorded(folder)


def _recorded(folder: Path, *, again: bool = True) -> PastRun:
    try:
        record, origin = read_record(folder)
    except RunError as problem:
        return PastRun(folder=folder, state="unreadable", error=problem.message, hint=problem.hint)
    if origin.state == "changed":
        return PastRun(
            folder=folder,
            state="changed",
            record=record,
            error=origin.note,
            hint=RUN_FILE.advice(origin.where),
        )
    common: dict[str, Any] = {"folder": folder, "record": record, "error": record.error, "hint": record.hint}
    if record.status == "done":
        try:
            whole = all(_is_there(folder / name) for name in record.outputs.values()) and _has_parts(folder)
        except RunError as problem:
            return PastRun(
                folder=folder,
                record=record,
                state="unreadable",
                error=problem.message,
                hint=problem.hint,
            )
        return PastRun(state="finished" if whole else "incomplete", **common)
    if record.status != "running":
        return PastRun(state=record.status, **common)
    who = writer_of(folder)
    if who is not None:
        return PastRun(state="running", holder=who, **common)
    # between reading the record and asking for the lock it may have ended; then the record says so now
    return _recorded(folder, again=False) if again else PastRun(state="killed", **common)


def _has_parts(folder: Path) -> bool:
    """Whether a folder has all parts of its shard, if it holds one.

    Raises:
        RunError: if ``shard.json`` cannot be read.
    """
    return not (folder / SHARD).exists() or finished_parts(folder) >= set(load_shard(folder).mine)


def writer_of(folder: Path) -> int | None:
    """Return the process that writes to a run's folder, 0 if unknown, None if none does."""
    who = holder(folder)
    return holder(folder / SHARDS) if who is None else who


def roots_of(roots: Iterable[str | os.PathLike[str]] | None = None) -> list[Path]:
    """Return the folders that are looked through: these, or of ``runs`` and ``circuits`` those that are there."""
    return [Path(r) for r in roots] if roots else [r for r in ROOTS if r.is_dir()]


def find_runs(roots: Iterable[str | os.PathLike[str]] | None = None) -> list[PastRun]:
    """Return every run in some folders and the folders in them, by path; links are not followed.

    Args:
        roots: By default ``runs`` and ``circuits`` below the current folder, as far as they are there.

    Raises:
        RunError: if a folder that is named is not there.
    """
    chosen = roots_of(roots)
    for root in chosen:
        if not os.path.isdir(root):
            raise RunError(f"no folder {root}", hint="name the folder that the runs were written to")
    folders = dict.fromkeys(folder for root in chosen for folder in _walk(root))
    return [look_at(folder) for folder in folders]


def is_run(folder: Path, names: Collection[str]) -> bool:
    """Say whether a folder that holds these names is that of a run; the folders in a run's own are parts of it."""
    return folder.name not in _INSIDE and has_traces(names)


def has_traces(names: Collection[str]) -> bool:
    """Say whether a run leaves one of these names in its folder; a folder of several runs is none itself."""
    return NAME in names or (SURVEY not in names and any(trace in names for trace in _TRACES))


def _walk(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root, followlinks=False):
        if has_traces({*names, *files}):  # the root whatever it is called: its user says that runs are there
            yield Path(folder)
        names[:] = sorted(name for name in names if name not in _INSIDE and not name.startswith("."))


def unmerged(runs: Sequence[PastRun]) -> list[Path]:
    """Folders of runs whose shards are there and that are not put together yet."""
    whole = {run.folder for run in runs if run.state == "finished"}
    return list(dict.fromkeys(run.shard_of for run in runs if run.shard_of and run.shard_of not in whole))


def files_in(folder: Path) -> Iterator[Path]:
    """Return every regular file below a folder, hidden ones included; links are neither followed nor named."""
    for here, names, files in os.walk(folder, followlinks=False):
        names.sort()
        for name in sorted(files):
            path = Path(here) / name
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except OSError:  # gone meanwhile
                continue


def size(count: int) -> str:
    """Return bytes as a person reads them: ``1.2 MB`` (powers of 1000).

    Example:
        >>> size(999), size(1234567)
        ('999 B', '1.2 MB')
    """
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them.

    Example:
        >>> duration(3.21), duration(75), duration(7500), duration(None)
        ('3.2 s', '1 min 15 s', '2 h 5 min', '')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
