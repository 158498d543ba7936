"""Finished parts of a sweep on disk, so that a killed run loses at most the part it was in.

``plan.json`` says what is measured; ``shards/`` has one safetensors file per finished part, each written
whole or not at all. A lock file keeps a second process out while one is writing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from workbench.errors import RunError
from workbench.io.atomic import write_atomic
from workbench.provenance import digest_of


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
        self._lock: int | None = None

    def __enter__(self) -> SweepStore:
        try:
            (self.folder / "shards").mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as problem:
            raise RunError(
                f"cannot use {self.folder}: {problem.strerror}", hint="choose another with --out"
            ) from None
        try:
            self._take()
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

    def _take(self) -> None:
        """Lock the folder for this process."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise RunError(
                f"another process ({holder}) is writing {self.folder}",
                hint="wait for it, or choose another --out",
            ) from None

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _claim(self) -> None:
        """Write our process id, and check what an earlier run left here."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode("ascii"), 0)
        for left in (self.folder / "shards").glob(".*.tmp"):  # half-written by a process that was killed
            left.unlink()
        path = self.folder / "plan.json"
        if not path.exists():
            if self.done():
                raise RunError(
                    f"{self.folder} has finished parts but no plan.json", hint="choose another --out"
                )
            write_atomic(path, json.dumps(self.plan, indent=2, allow_nan=False) + "\n")
            return
        try:
            before = json.loads(path.read_text("utf-8"))
        except (ValueError, OSError) as problem:
            raise RunError(f"{path} cannot be read: {problem}", hint="choose another --out") from None
        if not isinstance(before, dict) or digest_of(before) != digest_of(self.plan):
            raise RunError(
                f"{self.folder} holds another run: {_difference(before, self.plan)}",
                hint="use the same options as before with --resume, or choose another --out",
            )
        if not self.resume and self.done():
            raise RunError(
                f"{self.folder} holds {len(self.done())} finished parts of this very run",
                hint="--resume continues it; another --out starts anew",
            )

    def _path(self, key: str) -> Path:
        return self.folder / "shards" / f"{key}.safetensors"

    def done(self) -> set[str]:
        """Keys of the finished parts."""
        return {p.stem for p in (self.folder / "shards").glob("*.safetensors")}

    def get(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The values of a finished part, or None.

        Raises:
            RunError: if the file is there but damaged.
        """
        path = self._path(key)
        if not path.exists():
            return None
        try:
            values = load(path.read_bytes())["values"]
        except (SafetensorError, KeyError, OSError) as problem:
            raise RunError(
                f"{path} is damaged: {problem}", hint=f"delete it and --resume: rm {path}"
            ) from None
        if values.shape != shape:
            raise RunError(
                f"{path} has shape {values.shape}, expected {shape}", hint=f"rm {path}, then --resume"
            )
        return values

    def put(self, key: str, values: np.ndarray) -> None:
        """Keep the values of a finished part."""
        write_atomic(self._path(key), save({"values": np.ascontiguousarray(values)}))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder for a while; the lock goes with the process, also by kill -9.

    Raises:
        RunError: if another process has it, or the folder cannot be written.
    """
    handle = -1
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(Path(folder) / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if handle >= 0:
            os.close(handle)
        busy = isinstance(problem, BlockingIOError)
        what = f"another process is writing {folder}" if busy else f"cannot use {folder}: {problem.strerror}"
        raise RunError(what, hint="choose another --out") from None
    try:
        yield
    finally:
        os.close(handle)


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """The first thing in which two plans differ."""
    if not isinstance(before, dict):
        return "its plan is not readable"
    for key in sorted(set(before) | set(now)):
        if before.get(key) != now.get(key):
            a, b = str(before.get(key)), str(now.get(key))
            return f"{key} was {a[:80]}, now {b[:80]}"
    return "the plans differ"
