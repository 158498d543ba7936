"""One picture: named by where it is, loaded and checked when its pixels are first asked for."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from workbench.core.errors import TaskError
from workbench.tasks.pictures.file import file_of, read_pixels
from workbench.tasks.pictures.sources import SOURCES

Pixels = UInt8[np.ndarray, "height width 3"] | Float32[np.ndarray, "3 height width"]
"""Colours from 0 to 255, or numbers exactly as a model reads them."""

MEMORY = "memory"
AT_HAND = (
    256  # pictures that are kept once loaded, those of the batch at hand; others are loaded or drawn again
)
_KIND = re.compile(r"([a-z][a-z-]*):(.+)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a prompt. Pictures are equal where their pixels are, whatever their files are called.

    A file is read again when it is needed again; one that has changed since it was first read is refused.

    Args:
        source: A kind and a name, ``scene:7/12``, or the path of a ``.npy``, ``.npz`` or ``.png`` file in ``folder``.
        folder: The folder of the pairs file, which the path may not leave; made absolute.

    Example:
        >>> import workbench as wb
        >>> import numpy as np
        >>> picture = wb.Picture.of(np.zeros((8, 8, 3), dtype="uint8"))
        >>> picture.size, picture.pixels.dtype.name
        ((8, 8), 'uint8')
    """

    source: str
    folder: Path | None = field(default=None, repr=False)
    _held: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder).resolve())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        return self is other or self._is_drawn_as(other) or self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def _is_drawn_as(self, other: Picture) -> bool:
        """Whether both are one drawing by name, which need not be drawn to know."""
        return bool(self.kind) and self.kind != MEMORY and self.source == other.source

    @classmethod
    def of(cls, pixels: np.ndarray) -> Picture:
        """Return a picture from an array in memory; it is called by its digest.

        Raises:
            TaskError: if the array is no picture.
        """
        pixels = checked(np.array(pixels), "the array")
        pixels.setflags(write=False)
        return cls(f"{MEMORY}:{digest_of(pixels)}", _held=pixels)

    @property
    def kind(self) -> str:
        """``scene`` or another kind of source; empty for a file."""
        found = _KIND.fullmatch(self.source)
        return found[1] if found else ""

    @property
    def pixels(self) -> Pixels:
        """The pixels: uint8 ``(height, width, 3)``, or float32 ``(3, height, width)`` as the model reads them.

        Raises:
            TaskError: if the picture is missing, leaves its folder, is too large, is no picture, or is another one
                than at first.
        """
        if self._held is not None:
            return self._held
        pixels, digest = _read(self.source, self.folder)
        first = self.__dict__.setdefault("digest", digest)
        if digest != first:
            raise TaskError(
                f"picture {self.source!r:.200} in {self.folder} has changed since its pair was read: its digest was "
                f"{first} and is {digest}",
                hint="load the pairs again, and keep files as they are while they are measured",
            )
        return pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = self._shape
        return height, width

    @cached_property
    def _shape(self) -> tuple[int, int]:
        pixels = self.pixels
        return pixels.shape[:2] if pixels.dtype == np.uint8 else pixels.shape[1:]

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the pixels, their type and their shape."""
        return digest_of(self._held) if self._held is not None else _read(self.source, self.folder)[1]

    def require(self) -> None:
        """Do nothing if the source names a picture that can be there; nothing is drawn or loaded.

        Raises:
            TaskError: for an unknown kind, a path that leaves the folder, a missing file.
        """
        if self.kind == MEMORY and self._held is None:
            raise TaskError(
                f"picture {self.source!r} was in memory when its pair was saved, and is not in a file",
                hint="save the array as .npy beside the pairs and give its path",
            )
        if self.kind and self.kind != MEMORY:
            SOURCES.get(self.kind)
        elif not self.kind:
            file_of(self.source, self.folder)


def digest_of(pixels: np.ndarray) -> str:
    """Return first 16 hex digits of the SHA-256 of an array, with its type and shape."""
    said = f"{pixels.dtype.name} {pixels.shape}".encode()
    return sha256(said + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


def checked(pixels: np.ndarray, where: str) -> Pixels:
    """Return the array, if it is a picture: colours, or finite numbers.

    Raises:
        TaskError: saying what was found and what is expected.
    """
    shape, dtype = tuple(pixels.shape), pixels.dtype.name
    colours = dtype == "uint8" and len(shape) == 3 and shape[2] == 3
    numbers = dtype == "float32" and len(shape) == 3 and shape[0] == 3
    if not (colours or numbers) or 0 in shape:
        raise TaskError(
            f"{where} holds {dtype} {_product(shape)}; a picture is uint8 height x width x 3, or float32 "
            "3 x height x width as the model reads it",
            hint="array.astype('uint8') for colours from 0 to 255; one picture in each file",
        )
    if numbers and not np.isfinite(pixels).all():
        wrong = int((~np.isfinite(pixels)).sum())
        raise TaskError(
            f"{where} holds {wrong} numbers of {pixels.size} that are not finite (NaN or infinity)",
            hint="replace them: np.nan_to_num(pixels)",
        )
    return pixels


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


Seal = tuple[int, ...]
"""What a file is now: another file, or another content, has another one."""
_SETTLED = 2_000_000_000
"""Nanoseconds after which a change of a file shows in its times on every file system (two seconds on FAT)."""


def _read(source: str, folder: Path | None) -> tuple[Pixels, str]:
    """Pixels and their digest, from the pictures at hand where the file is still what it was."""
    if _KIND.fullmatch(source):
        return _load(source, None, ())
    found = os.stat(file_of(source, folder))
    seal = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    is_settled = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED
    return (_load if is_settled else _load.__wrapped__)(source, folder, seal)


@lru_cache(maxsize=AT_HAND)
def _load(source: str, folder: Path | None, seal: Seal) -> tuple[Pixels, str]:
    kind = _KIND.fullmatch(source)
    if kind is None:
        pixels = read_pixels(file_of(source, folder), source)
    elif kind[1] == MEMORY:
        raise TaskError(f"picture {source!r} is not in memory any more", hint="give a path instead")
    else:
        pixels = SOURCES.get(kind[1])(kind[2])
    pixels = checked(pixels, f"picture {source}")
    pixels.setflags(write=False)
    return pixels, digest_of(pixels)
