"""Whether files are as they were written: by their own digests, and by what the record of their run says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.circuits.files.plan_file import NAME as PLAN
from workbench.circuits.files.plan_file import load_plan, read_plan
from workbench.circuits.files.recognise import recognise
from workbench.core.bounds import exists
from workbench.core.errors import RunError, WorkbenchError
from workbench.core.lock import NAME as LOCK
from workbench.core.run_file import digest_of_file, read_record
from workbench.core.show import Told
from workbench.engine.run_folders.past_runs import has_traces, is_run, roots_of
from workbench.engine.store import SHARDS, is_as_written

State = Literal["as written", "changed", "missing", "no digest", "unreadable", "not recorded"]
_BAD = ("changed", "missing", "unreadable")
_SAVED_AGAIN = "other bytes than when its run ended; its own digest holds: it was saved again"


@dataclass(frozen=True, kw_only=True)
class CheckedFile:
    """One file, and what became of it since it was written.

    Attributes:
        run: The folder of the run that it belongs to; None for a file by itself.
    """

    path: Path
    run: Path | None
    state: State
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        run = None if self.run is None else str(self.run)
        return {"file": str(self.path), "run": run, "state": self.state, "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class Verification(Told):
    """Every file of some folders."""

    files: tuple[CheckedFile, ...]

    @property
    def passed(self) -> bool:
        """Whether no file was changed, is missing or cannot be read."""
        return not any(file.state in _BAD for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        counts = Counter(file.state for file in self.files)
        return {"passed": self.passed, "counts": dict(counts), "files": [f.to_dict() for f in self.files]}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        counts = Counter(file.state for file in self.files)
        told = ", ".join(f"{n} {state}" for state, n in counts.most_common())
        rows = [
            {"file": str(f.path), "state": f.state, "reason": f.reason}
            for f in self.files
            if f.state != "as written"
        ]
        return [
            f"{len(self.files)} files: {told}" if self.files else "no files of ours here",
            *([rows] if rows else []),
        ]


def verify(roots: Iterable[str | os.PathLike[str]] | None = None) -> Verification:
    """Check every file of every run in some folders, and files of ours that lie there by themselves.

    Args:
        roots: Folders or single files; by default ``runs`` and ``circuits``, as far as they are there.

    Raises:
        RunError: if one that is named is not there.
    """
    found: dict[Path, CheckedFile] = {}
    for root in roots_of(roots):
        if not exists(root):
            raise RunError(f"nothing is at {root}", hint="name a folder that runs were written to, or a file")
        for checked in _below(root) if os.path.isdir(root) else _alone(root, named=True):
            found.setdefault(checked.path, checked)
    return Verification(files=tuple(found.values()))


def _below(root: Path) -> Iterator[CheckedFile]:
    """Every file of the runs below a folder, and every file of ours that belongs to none."""
    owner: dict[Path, Path | None] = {}
    files: dict[Path, Path | None] = {}
    for here, names, inside in os.walk(root, followlinks=False):
        names[:] = sorted(name for name in names if not name.startswith("."))
        folder = Path(here)
        here_too = has_traces({*names, *inside}) and (folder == root or is_run(folder, {*names, *inside}))
        owner[folder] = folder if here_too else owner.get(folder.parent)
        files |= {folder / n: owner[folder] for n in sorted(inside) if _counts(folder / n)}
    records = _Records(run for run in dict.fromkeys(owner.values()) if run is not None)
    others = {path: run for path, (run, _) in records.named.items() if path not in files}
    for path, run in {**files, **others}.items():
        if run is not None or path in records.named:
            yield records.checked(path, run)
        else:
            yield from _alone(path)


def _counts(path: Path) -> bool:
    """A regular file that is neither a lock nor half-written; links are not followed."""
    return path.name != LOCK and not path.name.startswith(".") and path.is_file() and not path.is_symlink()


def _alone(path: Path, *, named: bool = False) -> Iterator[CheckedFile]:
    """A file that belongs to no run: what is not ours is passed over, unless it was named."""
    state, reason = own_state(path)
    if state != "not recorded" or named:
        yield CheckedFile(path=path, run=None, state=state, reason=reason)


def own_state(path: Path) -> tuple[State, str]:
    """Say what a file's own digest says of it, and why; ``not recorded`` for a file of another kind."""
    try:
        kind = recognise(path)
        if kind is None:
            return "not recorded", "no file of ours with a digest of its own"
    except WorkbenchError as problem:
        return "unreadable", problem.message
    try:
        origin = kind.open(path).origin
    except WorkbenchError as problem:
        return ("changed" if kind.is_changed(path) else "unreadable"), problem.message
    return origin.state, origin.note


class _Records:
    """What the records of some runs say of files.

    Attributes:
        named: File -> the run whose record names it, and its size and SHA-256 then.
    """

    def __init__(self, runs: Iterable[Path]) -> None:
        self.named: dict[Path, tuple[Path, Mapping[str, Any]]] = {}
        for run in runs:
            try:
                record, origin = read_record(run)
            except RunError:  # missing or unreadable: what is wrong with it is said of the file itself
                continue
            for name, was in record.files.items() if origin.state != "changed" else ():
                self.named[Path(os.path.normpath(run / name))] = run, was

    def checked(self, path: Path, run: Path | None) -> CheckedFile:
        """A file of a run, by its own digest, by the plan if it is a part, and by what a record says."""
        run, was = self.named.get(path, (run, None))
        state, reason = self._state(path, was)
        return CheckedFile(path=path, run=run, state=state, reason=reason)

    def _state(self, path: Path, was: Mapping[str, Any] | None) -> tuple[State, str]:
        if not exists(path):
            return "missing", "the record of its run names it"
        if path.parent.name == SHARDS and path.suffix == ".safetensors":
            return _part_state(path)
        own, reason = own_state(path)
        if (
            path.name == PLAN and own == "not recorded"
        ):  # in version 1 the plan was the file, with a format of its own
            own, reason = _plan_state(path.parent)
        if was is None or own in ("changed", "unreadable"):
            return own, reason
        if digest_of_file(path) != was:
            return "changed", _SAVED_AGAIN if own == "as written" else "other bytes than when its run ended"
        return (
            (own, f"{reason}; its bytes are as in the record of its run")
            if own == "no digest"
            else ("as written", "")
        )


def _plan_state(folder: Path) -> tuple[State, str]:
    try:
        origin = read_plan(folder)[1]
    except RunError as problem:
        return "unreadable", problem.message
    return origin.state, origin.note


def _part_state(path: Path) -> tuple[State, str]:
    """A finished part: its digest is over its values, its name and the plan."""
    try:
        good = is_as_written(path, load_plan(path.parent.parent))
    except RunError as problem:
        return "unreadable", problem.message
    return ("as written", "") if good else ("changed", "its digest is not that of its values in this run")


__all__ = ["CheckedFile", "Verification", "own_state", "verify"]
