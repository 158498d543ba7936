"""PNG files, by Pillow; their size is looked at before anything is unpacked."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from workbench.core.errors import TaskError
from workbench.tasks.pictures.limits import refuse_larger


def read_png(stream: BinaryIO, source: str) -> np.ndarray:
    """Return the pixels of a PNG of three colours.

    Raises:
        TaskError: if it unpacks to too much, or has another mode.
    """
    width, height = struct.unpack(
        ">II", stream.read(24)[16:24].rjust(8, b"\0")
    )  # where every PNG says its size
    refuse_larger(width * height * 3, source, f"{height} x {width} pixels")
    stream.seek(0)
    with Image.open(stream, formats=["PNG"]) as picture:  # Pillow guards its sizes as well
        if picture.mode != "RGB":
            raise TaskError(
                f"picture {source!r:.200} is a PNG of mode {picture.mode}; RGB is expected (8 bits, no transparency)",
                hint='Image.open(path).convert("RGB").save(path)',
            )
        return np.asarray(picture).copy()
