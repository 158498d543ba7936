"""PNG files, by Pillow; their size is looked at before anything is unpacked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from workbench.core.errors import TaskError
from workbench.tasks.pictures.limits import refuse_larger

_RGB = 2
_WHOLE = ((0, 1, 0, 1),)
_PASSES = (
    *((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4)),
    *((2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)),
)
"""First row, step, first column, step of each pass of an interlaced PNG."""
_PIECE = 2**20  # bytes that are unpacked at once, and counted


def read_png(stream: BinaryIO, source: str) -> np.ndarray:
    """Return the pixels of a PNG of three colours.

    Raises:
        TaskError: if it unpacks to too much, or has another mode.
    """
    data = stream.read()
    said = data[16:29].ljust(13, b"\0")  # where every PNG says its size and what its numbers are
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", said)
    refuse_larger(width * height * 3, source, f"{height} x {width} pixels")
    with Image.open(BytesIO(data), formats=["PNG"]) as picture:  # Pillow guards its sizes as well
        picture_is = _unlike(picture, bits, colours)
        if picture_is:
            raise TaskError(
                f"picture {source!r:.200} is a PNG {picture_is}; RGB is expected (8 bits, no transparency)",
                hint='Image.fromarray(np.asarray(Image.open(path).convert("RGB"))).save(path), or save numbers as .npy',
            )
        _require_rows(BytesIO(data), _n_bytes(width, height, _PASSES if interlaced else _WHOLE), source)
        return np.asarray(picture).copy()


def _n_bytes(width: int, height: int, passes: Sequence[tuple[int, int, int, int]]) -> int:
    """Bytes of all rows, each with a byte before it that says how it is written."""
    found = 0
    for top, down, left, right in passes:
        rows, columns = -(-(height - top) // down), -(-(width - left) // right)
        found += max(0, rows) * (1 + 3 * columns) if columns > 0 else 0
    return found


def _require_rows(stream: BinaryIO, n_bytes: int, source: str) -> None:
    """Do nothing if the pixels are all there: Pillow leaves rows black where a PNG says that it has more of them.

    Raises:
        TaskError: saying how many bytes there are.
    """
    unpacked, found, ended = zlib.decompressobj(), 0, False
    stream.seek(8)
    while not ended and len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind != b"IDAT":
            ended = found > 0
            stream.seek(length + 4, 1)
            continue
        piece = stream.read(length)
        while piece and found < n_bytes:
            found += len(unpacked.decompress(piece, _PIECE))
            piece = unpacked.unconsumed_tail
        stream.seek(4, 1)
    if found < n_bytes:
        raise TaskError(
            f"picture {source!r:.200} cannot be read: it says {n_bytes} bytes of pixels and has {found}",
            hint="the file was cut short or damaged: copy it again",
        )


def _unlike(picture: Image.Image, bits: int, colours: int) -> str:
    """What of a PNG would be lost as three colours of 8 bits; empty for nothing. Pillow itself cuts 16 bits to 8."""
    if picture.mode != "RGB":
        return f"of mode {picture.mode}"
    if (bits, colours) != (8, _RGB):
        return f"of {bits} bits and colour type {colours}"
    if "transparency" in picture.info:
        return "with a transparent colour (tRNS)"
    frames = getattr(picture, "n_frames", 1)
    return f"of {frames} frames" if frames > 1 else ""
