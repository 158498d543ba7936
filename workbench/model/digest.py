"""A digest of weights that does not depend on how they are stored.

sha256 over one line per tensor, sorted by name: name, dtype, shape and the sha256 of the values' bytes. The
same weights in one file or in ten shards, on disk or in memory, have the same digest; one changed bit gives
another. Which names a model's tensors have, whatever a file calls them: ``workbench/model/layout.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.stored_tensors import StoredTensor, read_headers

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


Weight = StoredTensor | Tensor  # in a file or in memory


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
    own = _dtype_of(weight)
    if dtype is None or own is None or own == dtype or not own.is_floating_point:
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
                raise ModelError(
                    f"{weight.file} ends within {weight.name}",
                    hint="the file was cut short: download or copy it again",
                )
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
