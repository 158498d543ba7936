"""What a file must be before it is read: a regular file of a bounded size. Pipes and devices are never opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench.core.errors import RunError, WorkbenchError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def kind_of(mode: int) -> str:
    """Say what a file mode stands for, in words; empty for a regular file.

    Example:
        >>> kind_of(stat.S_IFIFO), kind_of(stat.S_IFREG)
        ('a pipe', '')
    """
    return next((words for is_it, words in _KINDS if is_it(mode)), "")


def in_words(n_bytes: int) -> str:
    """Return a size to read: ``64 MB``, ``1.5 GB``, ``12 bytes``."""
    unit, name = next(((unit, name) for unit, name in _UNITS if n_bytes >= unit), (1, "bytes"))
    return f"{n_bytes / unit:.1f}".removesuffix(".0") + f" {name}"


def shown(path: str | os.PathLike[str], most: int = 200) -> str:
    """Return a path for a message; the middle of a very long one is left out."""
    text = os.fspath(path)
    return (
        text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]} ({len(text)} characters)"
    )


def expanded(path: str | os.PathLike[str], *, error: type[WorkbenchError] = RunError) -> Path:
    """Return the path with ``~`` and ``~user`` written out.

    Raises:
        WorkbenchError: of the type ``error``, if there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as problem:
        user = Path(path).parts[0]
        raise error(
            f"{shown(path)}: there is no user {user[1:]!r}, so {user} is no folder",
            hint="write the whole path, or ~/ for your own folder",
        ) from problem


def exists(path: str | os.PathLike[str]) -> bool:
    """Say whether something is there; a name that no file can have is not there."""
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True


def refuse_no_folder(path: str | os.PathLike[str]) -> None:
    """Do nothing if a folder of this name is there or can be made.

    Raises:
        RunError: for ``-``, which stands for standard output, and for what is there and is no folder.
    """
    if os.fspath(path) == "-":
        raise RunError("- is standard output; a folder is expected", hint="./- names a folder")
    if exists(path) and not os.path.isdir(path):
        kind = kind_of(os.stat(path).st_mode) or "a file"
        raise RunError(f"{shown(path)} is {kind}; a folder is expected", hint="choose another with --out")


def refuse_links(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Do nothing if these parts of a run's folder are its own.

    A link there, in a folder that somebody else made, would let us write to and tidy any folder of the user's.

    Raises:
        RunError: naming the first that is a link.
    """
    for name in names:
        path = Path(folder) / name
        if os.path.islink(path):
            raise RunError(
                f"{shown(path)} is a link to {shown(os.path.realpath(path))}; a folder of the run itself is expected",
                hint="remove the link; the whole folder of a run may be one",
            )


def require_regular(
    path: str | os.PathLike[str],
    *,
    most_bytes: int | None = None,
    error: type[WorkbenchError] = RunError,
) -> int:
    """Return the size of a regular file, in bytes; links are followed, nothing is opened.

    Call it before a library opens a path by itself: a pipe would make it wait for ever.

    Raises:
        WorkbenchError: of the type ``error``, if it is something else, missing, or larger than ``most_bytes``.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as problem:
        raise error(
            f"cannot read {shown(path)}: {_reason(problem)}", hint=_to_read(path, problem)
        ) from problem
    _check(path, found, most_bytes, error)
    return found.st_size


@contextmanager
def open_regular(
    path: str | os.PathLike[str],
    *,
    most_bytes: int | None = None,
    error: type[WorkbenchError] = RunError,
) -> Iterator[BinaryIO]:
    """Open a regular file for reading, as ``require_regular`` allows it.

    Raises:
        WorkbenchError: of the type ``error``; errors while reading inside the block too.
    """
    require_regular(path, most_bytes=most_bytes, error=error)
    try:
        # not to wait if it became a pipe just now
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as source:
            _check(path, os.fstat(handle), most_bytes, error)
            yield source
    except OSError as problem:
        raise error(
            f"cannot read {shown(path)}: {_reason(problem)}", hint=_to_read(path, problem)
        ) from problem


def read_bytes(
    path: str | os.PathLike[str], *, most_bytes: int, error: type[WorkbenchError] = RunError
) -> bytes:
    """Return the content of a regular file of at most ``most_bytes``.

    Raises:
        WorkbenchError: of the type ``error``, saying which of these it is not.
    """
    with open_regular(path, most_bytes=most_bytes, error=error) as source:
        size = os.fstat(source.fileno()).st_size
        # no more than it has: Python sets aside what is asked for, and 16 GB may be more than there are
        data = source.read(min(size, most_bytes) + 1)
        while size < len(data) <= most_bytes and (more := source.read(1 << 20)):
            data += more
    if len(data) > most_bytes:  # it grew, or is one of those that have no size: /proc
        raise _too_large(path, len(data), most_bytes, error)
    return data


def _check(
    path: str | os.PathLike[str], found: os.stat_result, most_bytes: int | None, error: type[WorkbenchError]
) -> None:
    kind = kind_of(found.st_mode)
    if kind:
        hint = "" if kind == "a folder" else "save what it gives to a file, and name that"
        raise error(f"{shown(path)} is {kind}; a regular file is expected", hint=hint)
    if most_bytes is not None and found.st_size > most_bytes:
        raise _too_large(path, found.st_size, most_bytes, error)


def _too_large(
    path: str | os.PathLike[str], size: int, most_bytes: int, error: type[WorkbenchError]
) -> WorkbenchError:
    return error(
        f"{shown(path)} has {in_words(size)}, more than the {in_words(most_bytes)} that are read",
        hint="name another file: the workbench writes none of this size",
    )


def _to_read(path: str | os.PathLike[str], problem: OSError | ValueError) -> str:
    """What to do about a path that cannot be read."""
    number = getattr(problem, "errno", None)
    if number == errno.ENOENT:
        return f"check the name: ls {shown(Path(path).parent)}"
    if number in (errno.EACCES, errno.EPERM):
        return f"allow it: chmod u+r {shown(path)}"
    return "name another file"


def _reason(problem: OSError | ValueError) -> str:
    """Why a path cannot be used, without the path."""
    return getattr(problem, "strerror", None) or str(problem)
