"""PNG files, by Pillow; their size is looked at before anything is unpacked."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from workbench.core.errors import TaskError
from workbench.tasks.pictures.limits import refuse_larger

_RGB = 2


def read_png(stream: BinaryIO, source: str) -> np.ndarray:
    """Return the pixels of a PNG of three colours.

    Raises:
        TaskError: if it unpacks to too much, or has another mode.
    """
    said = stream.read(26)[16:].rjust(10, b"\0")  # where every PNG says its size and what its numbers are
    width, height, bits, colours = struct.unpack(">IIBB", said)
    refuse_larger(width * height * 3, source, f"{height} x {width} pixels")
    stream.seek(0)
    with Image.open(stream, formats=["PNG"]) as picture:  # Pillow guards its sizes as well
        picture_is = _unlike(picture, bits, colours)
        if picture_is:
            raise TaskError(
                f"picture {source!r:.200} is a PNG {picture_is}; RGB is expected (8 bits, no transparency)",
                hint='Image.fromarray(np.asarray(Image.open(path).convert("RGB"))).save(path), or save numbers as .npy',
            )
        return np.asarray(picture).copy()


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
