"""A digest of weights that does not depend on how they are stored.

sha256 over one line per tensor, sorted by name: name, dtype, shape and the sha256 of the values' bytes. The
same weights in one file or in ten shards, on disk or in memory, have the same digest; one changed bit gives
another. Which names a model's tensors have, whatever a file calls them: ``workbench/model/layout.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.core.errors import ModelError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_HALF = (torch.bfloat16, torch.float16)
_FLOATS = (*_HALF, torch.float32, torch.float64)  # in the order in which they are tried
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


Weight = StoredTensor | Tensor  # in a file or in memory


def read_headers(files: Iterable[Path]) -> list[StoredTensor]:
    """Return the tensors of safetensors files, from their headers alone.

    Raises:
        ModelError: if a file is cut short or is not a safetensors file.
    """
    found: list[StoredTensor] = []
    for file in files:
        found.extend(_read_header(file))
    return found


def digest_files(files: Iterable[Path]) -> str:
    """Return the digest of all tensors in safetensors files, as they are stored: names, dtypes and bytes."""
    return combine([_line_of(tensor.name, tensor) for tensor in read_headers(files)])


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the digest of named tensors in memory, as they are."""
    return combine([_line_of(name, tensor) for name, tensor in tensors.items()])


def weight_lines(weights: Mapping[str, Weight]) -> dict[str, str]:
    """Return the line of every tensor of a model under its own name, whatever file and dtype it came in.

    Floating-point numbers are digested in the narrowest dtype that holds all of them exactly, so a checkpoint in
    bfloat16 has the same lines when it is read as float32.
    """
    dtype = exact_dtype(list(weights.values()))
    return {name: line(name, tensor, dtype) for name, tensor in weights.items()}


def line(name: str, weight: Weight, dtype: torch.dtype | None = None) -> str:
    """Return the line of one tensor, its floating-point numbers in this dtype."""
    if dtype is None or _dtype_of(weight) in (None, dtype) or not _dtype_of(weight).is_floating_point:
        return _line_of(name, weight)
    return _line_of(name, _read(weight).to(dtype))


def exact_dtype(weights: Sequence[Weight]) -> torch.dtype | None:
    """Return the narrowest dtype that holds all these floating-point numbers exactly; None where one is of no known
    dtype.
    """
    kinds = [_dtype_of(w) for w in weights]
    floats = [
        w for w, kind in zip(weights, kinds, strict=True) if kind is not None and kind.is_floating_point
    ]
    if not floats or None in kinds:
        return None
    largest_first = sorted(
        floats, key=lambda w: -math.prod(w.shape)
    )  # one that does not fit is soon found there
    fitting = (d for d in _FLOATS if all(holds(d, w) for w in largest_first))
    return next(fitting, None)


def widest_float(weights: Iterable[Weight]) -> torch.dtype:
    """Return the widest dtype among floating-point tensors."""
    found = torch.bfloat16
    for kind in map(_dtype_of, weights):
        if kind is not None and kind.is_floating_point:
            found = torch.promote_types(found, kind)
    return found


def holds(dtype: torch.dtype, weight: Weight) -> bool:
    """Say whether every number of a tensor is the same in this dtype."""
    own = _dtype_of(weight)
    if own == dtype or (own in _HALF and dtype in (torch.float32, torch.float64)) or dtype == torch.float64:
        return True
    flat = _read(weight).reshape(-1)
    parts = flat.split(_CHUNK)  # compared bit by bit: -0 is not 0
    return all(torch.equal(p.to(dtype).to(own).view(torch.uint8), p.view(torch.uint8)) for p in parts)


def combine(lines: Iterable[str]) -> str:
    """Return the digest of a model from the lines of its tensors."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def digest_config(fields: Mapping[str, object]) -> str:
    """Digest (16 hex digits) of a configuration, leaving out what does not change what is computed."""
    kept = {k: v for k, v in fields.items() if not k.startswith("_") and k not in _INCIDENTAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _line_of(name: str, weight: Weight) -> str:
    hashed = hashlib.sha256()
    for part in _bytes_of(weight):
        hashed.update(part)
    return json.dumps([name, stored_dtype(weight), list(weight.shape), hashed.hexdigest()])


def stored_dtype(weight: Weight) -> str:
    """Return the dtype of a tensor, as safetensors files and lines of the digest name it."""
    return weight.dtype if isinstance(weight, StoredTensor) else _NAMES.get(weight.dtype, str(weight.dtype))


def torch_dtype(name: str) -> torch.dtype | None:
    """Return the dtype that safetensors calls so."""
    return _DTYPES.get(name)


def dtype_in(line: str) -> str:
    """Return the dtype that a line of the digest names."""
    return json.loads(line)[1]


def _bytes_of(weight: Weight) -> Iterator[Any]:
    if isinstance(weight, Tensor):
        flat = weight.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy()
        return
    with weight.file.open("rb") as stream:
        stream.seek(weight.start)
        left = weight.end - weight.start
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise ModelError(f"{weight.file} ends within {weight.name}")
            yield chunk
            left -= len(chunk)


def _dtype_of(weight: Weight) -> torch.dtype | None:
    return _DTYPES.get(weight.dtype) if isinstance(weight, StoredTensor) else weight.dtype


def _read(weight: Weight) -> Tensor:
    if isinstance(weight, Tensor):
        return weight.detach().cpu()
    whole = bytearray().join(_bytes_of(weight))
    dtype = _DTYPES[weight.dtype]
    return (
        torch.frombuffer(whole, dtype=dtype).reshape(weight.shape)
        if whole
        else torch.empty(weight.shape, dtype=dtype)
    )


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
        known = _DTYPES.get(entry["dtype"])
        if known is not None and end - start != math.prod(entry["shape"]) * known.itemsize:
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
