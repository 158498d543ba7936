"""Writing a file so that a reader, or a crash, sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from workbench.errors import RunError

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
    errno.ENAMETOOLONG: "use a shorter name",
}


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` to a temporary name in the same folder, flush it to disk, rename it into place.

    Text is written as UTF-8 with ``\\n`` as it stands. Missing parent folders are made. Two writers of one
    path never mix: the last rename wins, whole.

    Returns:
        The path written.

    Raises:
        RunError: if the folder cannot be made or written, or the disk is full. Nothing is left behind and
            the former file, if there was one, is untouched.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as problem:
        raise RunError(
            f"cannot write {path}: {problem.strerror or problem}", hint=_HINTS.get(problem.errno or 0, "")
        ) from problem
    finally:
        if temporary:
            with suppress(OSError):  # gone after the rename; or the disk fails, and that is said already
                os.unlink(temporary)
    return path


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
