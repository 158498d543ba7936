"""Finished parts of a sweep on disk, so that a killed run loses at most the part it was in.

``plan.json`` says what is measured; ``shards/`` has one safetensors file per finished part, each written
whole or not at all, with a digest of its values, its name and the plan. A lock keeps a second process out.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from workbench.circuits.files.plan_file import NAME as PLAN
from workbench.circuits.files.plan_file import load_plan, save_plan
from workbench.circuits.files.shard_file import check_key
from workbench.core.atomic import write_atomic
from workbench.core.bounds import exists, read_bytes, refuse_links
from workbench.core.errors import RunError
from workbench.core.lock import GiveBack, locked, take
from workbench.core.run_record import digest_of

SHARDS = "shards"
MOST_PART = 16_000_000_000  # bytes of one part


class SweepStore:
    """The folder of one sweep. Use as a context manager: it is locked inside.

    Args:
        folder: Created if missing.
        plan: What is measured, as JSON values; must be equal to that of an earlier start.
        resume: Keep finished parts. Without it an unfinished earlier run in the folder is an error.

    Raises:
        RunError: if another process is writing there, the plan differs, or work would be thrown away.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
        self.folder, self.plan, self.resume = Path(folder), dict(plan), resume
        self._digest = digest_of(self.plan)
        self._lock: GiveBack | None = None

    def __enter__(self) -> SweepStore:
        refuse_links(self.folder, [SHARDS])
        # in shards/, so that whoever keeps the record of the run can hold the folder itself
        self._lock = take(self.folder / SHARDS, shown=self.folder)
        try:
            self._claim()
        except OSError as problem:
            self.__exit__()
            raise RunError(
                f"cannot use {self.folder}: {problem.strerror}", hint="choose another with --out"
            ) from None
        except RunError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            self._lock()
            self._lock = None

    def _claim(self) -> None:
        """Check what an earlier run left here, clear what it was writing, and write the plan."""
        check_plan(self.folder, self.plan, resume=self.resume)
        for left in (self.folder / SHARDS).glob(".*.tmp"):  # half-written by a process that was killed
            left.unlink()
        if not (self.folder / PLAN).exists():
            save_plan(self.plan, self.folder)

    def _path(self, key: str) -> Path:
        return self.folder / SHARDS / f"{check_key(key, self.folder)}.safetensors"

    def done(self) -> set[str]:
        """Return keys of the finished parts."""
        return finished_parts(self.folder)

    def get(self, key: str, shape: tuple[int, ...] | None) -> np.ndarray | None:
        """Return the values of a finished part, or None; any shape will do where it is None.

        Raises:
            RunError: if the file is there but damaged, or belongs to another part or run.
        """
        path = self._path(key)
        if not exists(path):
            return None
        values, found = _read_part(path)
        if shape is not None and values.shape != shape:
            raise RunError(
                f"{path} has shape {values.shape}, expected {shape}", hint=f"rm {path}, then --resume"
            )
        if found != part_digest(self._digest, key, values):
            raise RunError(
                f"{path} is damaged: its digest is {str(found)[:16]}, not that of its values in this run",
                hint=f"delete it and --resume: rm {path}",
            )
        return values

    def put(self, key: str, values: np.ndarray) -> None:
        """Keep the values of a finished part."""
        whole = np.ascontiguousarray(values)
        digest = part_digest(self._digest, key, whole)
        write_atomic(self._path(key), save({"values": whole}, metadata={"sha256": digest}))


def part_digest(plan_digest: str, key: str, values: np.ndarray) -> str:
    """SHA-256 of a part: which run, which part, type, shape, values."""
    head = json.dumps([plan_digest, key, str(values.dtype), list(values.shape)])
    return hashlib.sha256(head.encode() + values.tobytes()).hexdigest()


def _read_part(path: Path) -> tuple[np.ndarray, str | None]:
    """The values of a part, and the digest in its header, if it has one.

    Raises:
        RunError: if the file is damaged.
    """
    data = read_bytes(path, most_bytes=MOST_PART)
    try:
        (length,) = struct.unpack("<Q", data[:8])
        return load(data)["values"], (json.loads(data[8 : 8 + length])["__metadata__"] or {}).get("sha256")
    except (SafetensorError, KeyError, OSError, ValueError, struct.error) as problem:
        raise RunError(f"{path} is damaged: {problem}", hint=f"delete it and --resume: rm {path}") from None


def is_as_written(path: Path, plan: Mapping[str, Any]) -> bool:
    """Say whether a finished part is as the run of this plan wrote it, under its own name.

    Raises:
        RunError: if the file is damaged.
    """
    values, found = _read_part(path)
    return found == part_digest(digest_of(plan), path.stem, values)


def finished_parts(folder: Path) -> set[str]:
    """Return keys of the finished parts of a sweep."""
    return {p.stem for p in (Path(folder) / SHARDS).glob("*.safetensors")}


def drop_parts(folder: Path) -> None:
    """Remove the parts of a run whose result is saved, and its plan; the caller holds the folder's lock."""
    refuse_links(folder, [SHARDS])
    for done in (Path(folder) / PLAN, *(Path(folder) / SHARDS).glob("*")):
        done.unlink(missing_ok=True)
    with suppress(OSError):
        (Path(folder) / SHARDS).rmdir()


def check_plan(folder: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
    """Whether a run of this plan may write to a folder; nothing is changed.

    Raises:
        RunError: if the folder holds another run, or finished parts that would be thrown away.
    """
    path, parts = Path(folder) / PLAN, finished_parts(folder)
    if not path.exists():
        if parts:
            raise RunError(f"{folder} has finished parts but no plan.json", hint="choose another --out")
        return
    before = load_plan(folder)
    if digest_of(before) != digest_of(plan):
        raise RunError(
            f"{folder} holds another run: {difference(before, plan)}",
            hint="use the same options as before with --resume, or choose another --out",
        )
    if not resume and parts:
        raise RunError(
            f"{folder} holds {len(parts)} finished parts of this very run",
            hint=f"--resume continues it, and so does workbench runs resume {folder}; another --out starts anew",
        )


def read_plan(folder: Path) -> dict[str, Any] | None:
    """Say what the run in a folder measures; None if it does not say.

    Raises:
        RunError: if it says it in a file that cannot be read, or was changed since it was written.
    """
    return load_plan(folder) if exists(Path(folder) / PLAN) else None


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first thing in which two plans differ."""
    for key in sorted(set(before) | set(now)):
        if before.get(key) != now.get(key):
            a, b = str(before.get(key)), str(now.get(key))
            return f"{key} was {a[:80]}, now {b[:80]}"
    return "the plans differ"


__all__ = [
    "PLAN",
    "SHARDS",
    "SweepStore",
    "check_plan",
    "difference",
    "drop_parts",
    "finished_parts",
    "locked",
    "read_plan",
]
