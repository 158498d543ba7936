"""One writer per folder: a lock that goes with its process, also by kill -9, and says who holds it.

The system keeps the lock (``flock``). Where Python has no ``fcntl``, filelock does: by the system on Windows,
elsewhere by a file that names its process.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from workbench.core.bounds import kind_of, open_regular, refuse_no_folder
from workbench.core.errors import RunError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # asked for wherever it is used

NAME, HELD = ".lock", ".lock.held"  # who has it; the file that filelock locks
_TRIES, _PAUSE = (
    10,
    0.03,
)  # `holder` takes the lock for some microseconds; a start at that moment must not fail
GiveBack = Callable[[], None]


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep every other process out of a folder for a while. The folder is made if missing.

    Raises:
        RunError: if another process has it, or the folder cannot be written.
    """
    give_back = take(Path(folder))
    try:
        yield
    finally:
        give_back()


def take(folder: Path, *, shown: Path | None = None) -> GiveBack:
    """Lock a folder and write our process id into the lock; returns what gives it back.

    Args:
        shown: The folder to name in errors, where the lock is in a part of it.

    Raises:
        RunError: if another process has it, or the folder cannot be written.
    """
    shown = shown or folder
    refuse_no_folder(shown)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            give_back = _attempt(folder / NAME) if fcntl else _attempt_by_filelock(folder)
            if give_back is not None:
                return give_back
            time.sleep(_PAUSE)
    except OSError as problem:
        what = "a link stands for the lock file" if problem.errno == errno.ELOOP else problem.strerror
        raise RunError(f"cannot use {shown}: {what}", hint="choose another with --out") from None
    who = _written(folder / NAME)
    raise RunError(
        f"another process ({who or 'unknown'}) is writing {shown}",
        hint="wait for it, or choose another --out",
    )


def _attempt(path: Path) -> GiveBack | None:
    """Lock the file; None if another has it, or it was replaced between opening and locking.

    Raises:
        RunError: if a pipe, a device or a socket has its name.
    """
    if os.path.lexists(path) and (kind := kind_of(os.lstat(path).st_mode)):
        raise RunError(f"{path} is {kind}; the lock of a run is a file", hint=f"remove it: rm {path}")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode("ascii"), 0)
            return partial(os.close, handle)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _attempt_by_filelock(folder: Path) -> GiveBack | None:
    """The same where there is no ``fcntl``."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / HELD, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    (folder / NAME).write_text(str(os.getpid()), encoding="ascii")
    return lock.release


def holder(folder: str | os.PathLike[str]) -> int | None:
    """Process id of the one that is writing a folder, 0 if it is unknown, None if nobody is. Nothing is changed."""
    path = Path(folder) / NAME
    if not fcntl:
        return _holder_by_filelock(path)
    try:
        # not to wait for somebody to write, where a pipe has the name
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as problem:
        return int(_written(path) or 0) if isinstance(problem, BlockingIOError) else None
    finally:
        os.close(handle)


def _holder_by_filelock(path: Path) -> int | None:
    if not path.exists():
        return None
    who = _written(path)
    give_back = _attempt_by_filelock(path.parent)
    if give_back is None:
        return int(who or 0)
    give_back()
    return None


def _written(path: Path) -> str:
    """The process id that a lock file names, as digits; empty if it names none."""
    try:
        with open_regular(path) as source:
            text = source.read(32).decode("ascii", "replace").strip()
    except RunError:
        return ""
    return text if text.isdecimal() else ""
