"""Small rasters inside an SVG: pixels as a PNG in a data address, so that a picture needs no other file."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from workbench.core.errors import ShapeError


def png(pixels: np.ndarray) -> bytes:
    """Write pixels as a PNG.

    Args:
        pixels: uint8, ``(height, width, 3)`` or with a fourth channel that says how opaque each is.

    Raises:
        ShapeError: for another shape or dtype.

    Example:
        >>> png(np.zeros((1, 1, 3), dtype="uint8"))[:8]
        b'\\x89PNG\\r\\n\\x1a\\n'
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or not pixels.size:
        raise ShapeError(
            f"pixels are {pixels.dtype} {pixels.shape}; uint8 (height, width, 3 or 4) is expected",
            hint="(255 * colours).round().astype('uint8') turns colours from 0 to 1 into it",
        )
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(pixels))
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image(pixels: np.ndarray, x: float, y: float, width: float, height: float, *, name: str = "") -> str:
    """Return an SVG image of pixels, each a sharp square."""
    known = f' id="{name}"' if name else ""
    data = base64.b64encode(png(pixels)).decode("ascii")
    return (
        f'<image{known} x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    )
