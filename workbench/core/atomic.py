"""Writing a file so that a reader, or a crash, sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from workbench.core.bounds import kind_of, shown
from workbench.core.errors import RunError

_HINTS = {
    errno.EACCES: "the folder cannot be written; choose another with -o/--out",
    errno.EPERM: "the folder cannot be written; choose another with -o/--out",
    errno.EROFS: "the file system is read-only; choose another folder with -o/--out",
    errno.ENOSPC: "the disk is full; free some space or choose another folder with -o/--out",
    errno.EFBIG: "a file may not grow that large here (ulimit -f); raise the limit or choose another folder",
    errno.EIO: "the disk reports an error; choose another folder with -o/--out",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder with -o/--out",
    errno.EISDIR: "a folder of that name is in the way",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "the links point at each other; remove them",
    errno.EPIPE: "the process that was reading it has ended",
}
_STREAMED = (stat.S_ISFIFO, stat.S_ISCHR)
_MOST_NAME = 160  # bytes of the name that the temporary one begins with; a name has 255 at most


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` to a temporary name in the same folder, flush it to disk, rename it into place.

    Text is written as UTF-8 with ``\\n`` as it stands. Missing parent folders are made. Two writers of one
    path never mix: the last rename wins, whole. A link of that name is replaced, not followed: what lies in the
    folder of a run may have been put there by somebody else. ``write_output`` follows it.

    Returns:
        The path written.

    Raises:
        RunError: if the folder cannot be made or written, the disk is full, or a pipe, a device or a socket has the
            name. Nothing is left behind and the former file, if there was one, is untouched.
    """
    path = Path(path)
    with suppress(OSError, ValueError):  # what is wrong with the name is said below
        kind = kind_of(os.lstat(path).st_mode) if not path.is_symlink() else ""
        if kind not in ("", "a folder"):
            raise RunError(f"{shown(path)} is {kind}; a regular file belongs there", hint="remove it")
    return _replace(path, content, named=path)


def write_output(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write to a file that the user named: as ``write_atomic``, but links are followed, pipes and devices streamed to.

    Returns:
        The path as given.

    Raises:
        RunError: as ``write_atomic``, or if it is a socket, a disk, or a pipe that nobody reads.
    """
    path = Path(path)
    if os.fspath(path) == "-":
        raise RunError(
            "- is standard output; a file is expected here", hint="./- names a file, /dev/stdout streams"
        )
    try:
        # realpath of /dev/stdout is the file that it leads to, which must stay the one that is open
        target = (
            path if os.path.abspath(path).startswith(("/dev/", "/proc/")) else Path(os.path.realpath(path))
        )
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as problem:
        if getattr(problem, "errno", None) != errno.ENOENT:
            raise _explained(path, problem) from problem
        return _written(path, target, content)
    kind = kind_of(mode)
    is_open = target is path and not kind and os.path.islink(path)  # /dev/stdout into a file, /proc/self/fd/3
    if any(is_it(mode) for is_it in _STREAMED) or is_open:
        return _stream(path, content)
    if kind not in ("", "a folder"):
        raise RunError(
            f"{shown(path)} is {kind}; nothing is written to it", hint="name a file, or - for stdout"
        )
    return _written(path, target, content)


def _written(path: Path, target: Path, content: bytes | str) -> Path:
    _replace(target, content, named=path)
    return path


def _replace(path: Path, content: bytes | str, *, named: Path) -> Path:
    """Write a temporary file and rename it over ``path``; ``named`` is what errors call it."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = path.name.encode("utf-8", "surrogateescape")[:_MOST_NAME].decode("utf-8", "ignore")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{start}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, ValueError) as problem:
        raise _explained(named, problem) from problem
    finally:
        if temporary:
            with suppress(OSError):  # gone after the rename; or the disk fails, and that is said already
                os.unlink(temporary)
    return path


def file_at(path: str | os.PathLike[str], name: str) -> Path:
    """Return the file that is meant by a path to write to: a path without the ending of ``name`` is a folder for it."""
    is_file = Path(path).suffix == Path(name).suffix and not os.path.isdir(path)
    return Path(path) if is_file else Path(path) / name


def _stream(path: Path, content: bytes | str) -> Path:
    """Write to a pipe or a device as it stands.

    Raises:
        RunError: if nobody reads the pipe, now or any more.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        os.set_blocking(handle, True)
        with os.fdopen(handle, "wb") as out:
            out.write(data)
    except OSError as problem:
        if problem.errno == errno.ENXIO:  # a pipe without a reader; waiting for one could take for ever
            raise RunError(
                f"{shown(path)} is a pipe that nobody reads", hint="start the reader first"
            ) from problem
        raise _explained(path, problem) from problem
    return path


def _explained(path: Path, problem: OSError | ValueError) -> RunError:
    reason = getattr(problem, "strerror", None) or str(problem)
    number = getattr(problem, "errno", None) or 0
    return RunError(
        f"cannot write {shown(path)}: {reason}", hint=_HINTS.get(number, "choose another with --out")
    )


def _umask() -> int:
    """The process's umask; ``mkstemp`` ignores it and makes files that only the owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; file systems that cannot do it for folders are left alone."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
