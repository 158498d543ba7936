"""Pictures in files: ``.npy``, ``.npz`` and ``.png``, in the folder of the pairs that name them and nowhere else."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from workbench.core.bounds import open_regular
from workbench.core.errors import TaskError
from workbench.core.registry import Registry
from workbench.tasks.pictures.limits import MOST_BYTES, refuse_larger

Reader = Callable[[BinaryIO, str], np.ndarray]
_BROKEN = (
    *(ValueError, OSError, EOFError, SyntaxError, KeyError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, TokenError),  # the last one from a header of numpy's
)
"""What libraries raise on files that they cannot read."""
_ARRAY = re.compile(r"(.*\.npz)#(.*)", re.DOTALL | re.IGNORECASE)
_HINT = "give a path below the folder of the pairs file: pictures/a.png"


def split(source: str) -> tuple[str, str]:
    """Return the path of a picture's file, and the name of the array where it is in an ``.npz``.

    Example:
        >>> split("two.npz#left"), split("a#1.png")
        (('two.npz', 'left'), ('a#1.png', ''))
    """
    found = _ARRAY.fullmatch(source)
    return (found[1], found[2]) if found else (source, "")


def file_of(source: str, folder: Path | None) -> Path:
    """Return the file of a picture.

    Raises:
        TaskError: if the path leaves the folder, passes a link, is of another kind of file, or nothing is there.
    """
    name = PurePosixPath(split(source)[0])
    before = name.name.partition("#")[0]
    if name.suffix.lower() not in READERS and PurePosixPath(before).suffix.lower() in READERS:
        raise TaskError(
            f"picture {source!r:.200}: there is no such file; # names an array of an .npz", hint=before
        )
    if name.suffix.lower() not in READERS:
        kinds = ", ".join(READERS)
        raise TaskError(
            f"picture {source!r:.200} is none of {kinds}", hint="scene:SEED/INDEX names a drawn scene"
        )
    if name.is_absolute() or ".." in name.parts or "\\" in source or "\0" in source:
        raise TaskError(f"picture {source!r:.200} leaves the folder of the pairs file", hint=_HINT)
    if folder is None:
        raise TaskError(
            f"picture {source!r:.200} is a path, and these pairs are from no file that it could be beside",
            hint="wb.Picture.of(array), or Picture(source, folder)",
        )
    path = folder
    for part in name.parts:
        path = path / part
        if os.path.islink(path):
            raise TaskError(
                f"picture {source!r:.200}: {path.name} is a link; a file of its own is expected", hint=_HINT
            )
    if not os.path.isfile(path):
        raise TaskError(
            f"picture {source!r:.200}: there is no such file in {folder}",
            hint="paths of pictures count from the folder of the pairs file: put the picture there, or "
            "write its path from there",
        )
    return path


def read_pixels(path: Path, source: str) -> np.ndarray:
    """Return the array in a file, of whatever type and shape.

    Raises:
        TaskError: if the file or what it unpacks to is too large, or it cannot be read.
    """
    with open_regular(path, most_bytes=MOST_BYTES, error=TaskError) as stream:
        try:
            return READERS.get(path.suffix.lower())(stream, source)
        except _BROKEN as problem:
            raise TaskError(
                f"picture {source!r:.200} cannot be read: {_plainly(problem, path):.200}",
                hint="open it in a picture program and save it again as .png",
            ) from problem


_OTHERS = {
    "cannot identify": "its bytes are no PNG",  # Pillow names an object of ours there
    "allow_pickle": "it holds Python objects, which are never loaded; numbers are expected",
    "magic string": "its bytes are no array of numpy",
}
"""Words in what libraries say -> what it means."""


def _plainly(problem: BaseException, path: Path) -> str:
    """What a library says of a file that it cannot read, as a sentence about the file."""
    if not path.stat().st_size:
        return "it is empty"
    said = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    return next((plain for words, plain in _OTHERS.items() if words in said), said)


def _npy(stream: BinaryIO, source: str) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    n_bytes = dtype.itemsize
    for length in shape:
        n_bytes *= int(length)
    refuse_larger(n_bytes, source, " x ".join(map(str, shape)))
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _npz(stream: BinaryIO, source: str) -> np.ndarray:
    wanted = split(source)[1]
    with zipfile.ZipFile(stream) as packed:
        names = [name.removesuffix(".npy") for name in packed.namelist()]
        if wanted not in names and (wanted or len(names) != 1):
            listed = ", ".join(names[:8]) or "none"
            raise TaskError(
                f"picture {source!r:.200} names no single array; the file holds {listed}",
                hint="pictures.npz#NAME",
            )
        info = packed.getinfo((wanted or names[0]) + ".npy")
        refuse_larger(info.file_size, source, "one array")
        with packed.open(info) as member:
            return _npy(BytesIO(member.read(info.file_size + 1)), source)


READERS: Registry[Reader] = Registry("kind of picture file", error=TaskError)
READERS.add(".npy", _npy)
READERS.add(".npz", _npz)
READERS.lazy(".png", "workbench.tasks.pictures.png:read_png")  # Pillow, only where there is one
