"""The tensors of safetensors files, from their headers alone: names, dtypes, shapes and places. No torch here."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core.errors import ModelError

# Bytes of one number, by the format's name of its dtype.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MAX_HEADER = 100_000_000  # bytes; the limit of the format's own reader


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int


def read_headers(files: Iterable[Path]) -> list[StoredTensor]:
    """Return the tensors of safetensors files, from their headers alone.

    Raises:
        ModelError: if a file is cut short or is not a safetensors file.
    """
    found: list[StoredTensor] = []
    for file in files:
        found.extend(_read_header(file))
    return found


def _require_whole(header: Mapping[str, Any]) -> None:
    """Do nothing if every size in a header is a whole number, and every tensor as long as its shape says.

    ``int`` would also take 3.7 and true.

    Raises:
        ValueError: naming the tensor.
    """
    for name, entry in header.items():
        if not all(type(n) is int and n >= 0 for n in (*entry["shape"], *entry["data_offsets"])):
            raise ValueError(f"{name!r:.80} has a size that is no whole number")
        start, end = entry["data_offsets"]
        known = _BYTES.get(entry["dtype"])
        if known is not None and end - start != math.prod(entry["shape"]) * known:
            raise ValueError(f"{name!r:.80} has {end - start} bytes; its shape and dtype need others")


def _read_header(file: Path) -> list[StoredTensor]:
    size = file.stat().st_size
    hint = "the file was cut short or damaged: download or copy it again"
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER + 1
        if length > min(_MAX_HEADER, size - 8):
            raise ModelError(f"{file} is not a whole safetensors file ({size} bytes)", hint=hint)
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            _require_whole(header)
            tensors = [
                StoredTensor(
                    name=str(name),
                    dtype=str(entry["dtype"]),
                    shape=tuple(int(n) for n in entry["shape"]),
                    file=file,
                    start=8 + length + int(entry["data_offsets"][0]),
                    end=8 + length + int(entry["data_offsets"][1]),
                )
                for name, entry in header.items()
            ]
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as error:
            raise ModelError(f"{file} has an unreadable safetensors header: {error}", hint=hint) from error
    expected = max((tensor.end for tensor in tensors), default=8 + length)
    if expected != size:
        raise ModelError(f"{file} has {size} bytes; its header describes {expected}", hint=hint)
    return tensors
