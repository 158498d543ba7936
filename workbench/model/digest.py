"""A digest of weights that does not depend on how they are stored.

sha256 over one line per tensor, sorted by name: name, dtype, shape and the sha256 of the values' bytes. The
same weights in one file or in ten shards, on disk or in memory, have the same digest; one changed bit gives
another.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import ModelError

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_INCIDENTAL = {
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "device",
    "seed",
    "init_weights",
}
_CHUNK = 1 << 22
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
    """The tensors of safetensors files, from their headers alone.

    Raises:
        ModelError: if a file is cut short or is not a safetensors file.
    """
    found: list[StoredTensor] = []
    for file in files:
        found.extend(_read_header(file))
    return found


def digest_files(files: Iterable[Path]) -> str:
    """Digest of all tensors in safetensors files."""
    lines = []
    for tensor in read_headers(files):
        hashed = hashlib.sha256()
        with tensor.file.open("rb") as stream:
            stream.seek(tensor.start)
            left = tensor.end - tensor.start
            while left:
                chunk = stream.read(min(_CHUNK, left))
                if not chunk:
                    raise ModelError(f"{tensor.file} ends within {tensor.name}")
                hashed.update(chunk)
                left -= len(chunk)
        lines.append(_line(tensor.name, tensor.dtype, tensor.shape, hashed.hexdigest()))
    return _combine(lines)


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Digest of named tensors in memory."""
    lines = []
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        values = hashlib.sha256(flat.view(torch.uint8).numpy()).hexdigest()
        dtype = _DTYPES.get(tensor.dtype, str(tensor.dtype))
        lines.append(_line(name, dtype, tuple(tensor.shape), values))
    return _combine(lines)


def digest_config(fields: Mapping[str, object]) -> str:
    """Digest (16 hex digits) of a configuration, leaving out what does not change what is computed."""
    kept = {k: v for k, v in fields.items() if not k.startswith("_") and k not in _INCIDENTAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _line(name: str, dtype: str, shape: tuple[int, ...], values: str) -> str:
    return json.dumps([name, dtype, list(shape), values])


def _combine(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


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
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise ModelError(f"{file} has an unreadable safetensors header: {error}", hint=hint) from error
    expected = max((tensor.end for tensor in tensors), default=8 + length)
    if expected != size:
        raise ModelError(f"{file} has {size} bytes; its header describes {expected}", hint=hint)
    return tensors
