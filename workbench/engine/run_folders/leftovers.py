"""What runs left behind and nobody needs: half-written files, parts of finished tables, locks of the dead."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.circuits.files.shard_file import NAME as SHARD
from workbench.core.errors import RunError, WorkbenchError
from workbench.core.lock import NAME as LOCK
from workbench.core.lock import holder, take
from workbench.core.run_file import digest_of_file
from workbench.core.show import Told
from workbench.engine.run_folders.past_runs import PastRun, files_in, find_runs, size, writer_of
from workbench.engine.store import SHARDS

Kind = Literal["half-written file", "part of a finished table", "lock that nobody holds"]
_TEMPORARY = re.compile(r"\..+\.[A-Za-z0-9_]{8}\.tmp")  # as `workbench.core.atomic` names them


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One file that can go; ``run`` is the folder of its run, where it really lies."""

    path: Path
    run: Path
    kind: Kind
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"path": str(self.path), "kind": self.kind, "bytes": self.bytes}


@dataclass(frozen=True, kw_only=True)
class Tidied(Told):
    """What can go, or went; ``kept`` says why something stayed."""

    leftovers: tuple[Leftover, ...]
    removed: bool
    kept: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        total = sum(x.bytes for x in self.leftovers)
        files = [x.to_dict() for x in self.leftovers]
        return {"removed": self.removed, "bytes": total, "files": files, "kept": list(self.kept)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        if not self.leftovers:
            return ["nothing to tidy", *self.kept]
        groups: dict[tuple[Path, str], list[Leftover]] = {}
        for found in self.leftovers:
            groups.setdefault((found.run, found.kind), []).append(found)
        rows = [
            {"run": str(run), "what": kind, "files": len(found), "size": size(sum(x.bytes for x in found))}
            for (run, kind), found in groups.items()
        ]
        total = f"{len(self.leftovers)} files, {size(sum(x.bytes for x in self.leftovers))}"
        done = (
            f"removed {total}"
            if self.removed
            else f"{total} can go; nothing was removed yet: add --yes (--json names each)"
        )
        stays = "results, records and shards stay, shards of a run that is put together too"
        return [rows, done, stays, *self.kept]


def leftovers(roots: Iterable[str | os.PathLike[str]] | None = None) -> list[Leftover]:
    """Say what can go in the runs of some folders. Runs that are being written are left alone, links are not
    followed.

    Raises:
        RunError: if a folder that is named is not there.
    """
    runs = find_runs(roots)
    inner = {run.folder for run in runs}
    found: dict[Path, Leftover] = {}
    for run in runs:
        if writer_of(run.folder) is None:
            whole = _is_whole(run) and not (run.folder / SHARD).exists()  # a shard is its parts
            for path in files_in(run.folder):
                owner = next(p for p in path.parents if p in inner)
                if owner == run.folder and (kind := _kind(path, whole)):
                    found[path] = Leftover(path=path, run=run.folder, kind=kind, bytes=path.lstat().st_size)
    return list(found.values())


def _kind(path: Path, whole: bool) -> Kind | None:
    if _TEMPORARY.fullmatch(path.name):
        return "half-written file"
    if path.name == LOCK and holder(path.parent) is None:
        return "lock that nobody holds"
    if whole and path.parent.name == SHARDS and path.suffix == ".safetensors":
        return "part of a finished table"
    return None


def _is_whole(run: PastRun) -> bool:
    """Whether a run is finished and every file that its record names is there as it was written."""
    record = run.record
    if run.state != "finished" or record is None or not record.files:
        return False
    try:
        return all(digest_of_file(run.folder / name) == was for name, was in record.files.items())
    except RunError:
        return False


def tidy(roots: Iterable[str | os.PathLike[str]] | None = None, *, remove: bool = False) -> Tidied:
    """Find what can go and, with ``remove``, delete it; each run is locked meanwhile.

    Raises:
        RunError: if a folder that is named is not there.
    """
    found = leftovers(roots)
    if not remove:
        return Tidied(leftovers=tuple(found), removed=False)
    gone: list[Leftover] = []
    kept: list[str] = []
    for folder in dict.fromkeys(x.run for x in found):
        try:
            gone += _remove(folder, [x for x in found if x.run == folder])
        except (WorkbenchError, OSError) as problem:
            kept.append(f"{folder} is left alone: {getattr(problem, 'message', problem)}")
    return Tidied(leftovers=tuple(gone), removed=True, kept=tuple(kept))


def _remove(folder: Path, chosen: Sequence[Leftover]) -> Iterator[Leftover]:
    """Delete files of one run under its locks, the locks last, and folders of parts that are empty then."""
    homes = [folder, *dict.fromkeys(x.path.parent for x in chosen if x.path.parent.name == SHARDS)]
    held = [take(home, shown=folder) for home in homes]
    try:
        for found in sorted(chosen, key=lambda x: x.path.name == LOCK):
            if _is_ours(found.path, folder):
                found.path.unlink()
                yield found
        for home in homes:
            (home / LOCK).unlink(missing_ok=True)  # `take` made it where there was none
            if home != folder and not any(home.iterdir()):
                home.rmdir()
    finally:
        for give_back in held:
            give_back()


def _is_ours(path: Path, folder: Path) -> bool:
    """A regular file that lies in the folder also when every link is followed."""
    try:
        inside = path.parent.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
        return inside and stat.S_ISREG(path.lstat().st_mode)
    except (OSError, RuntimeError):
        return False


__all__ = ["Leftover", "Tidied", "leftovers", "tidy"]
