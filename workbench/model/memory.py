"""Will the weights fit? Asked of file headers before anything is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch

from workbench.errors import ModelError, OptionError
from workbench.model.digest import StoredTensor

_FACTOR = (
    1.15  # 1.05 x the weights stay resident after booting a GPT-2-small-sized model; the rest is activations
)
_UNITS = {"": 1, "B": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_FLOATS = {"F64", "F32", "F16", "BF16"}


def parse_size(text: int | str) -> int:
    """Bytes from a number or text like "8GB" (powers of 1000) or "8GiB" (powers of 1024)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(text), re.IGNORECASE)
    if match is None:
        raise OptionError(f"max_memory is {text!r}; a size is expected", hint='"8GB" or a number of bytes')
    unit = match[2].upper()
    factor = 1024 ** "BKMGT".index(unit or "B") if match[3] else _UNITS[unit]
    return int(float(match[1]) * factor)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an error says that memory ran out; on a CPU torch says it in a plain RuntimeError."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(problem).lower()
    return isinstance(problem, RuntimeError) and ("allocate memory" in text or "out of memory" in text)


def needed_bytes(tensors: Iterable[StoredTensor], dtype: torch.dtype) -> int:
    """Memory that a model of these tensors takes once loaded in `dtype`."""
    size = 0
    for tensor in tensors:
        stored = tensor.end - tensor.start
        size += math.prod(tensor.shape) * dtype.itemsize if tensor.dtype in _FLOATS else stored
    return int(size * _FACTOR)


def available_bytes(device: str) -> int:
    """Free memory on a device; on the CPU the smaller of the machine's and the control group's."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    free = psutil.virtual_memory().available
    limit, used = _read(Path("/sys/fs/cgroup/memory.max")), _read(Path("/sys/fs/cgroup/memory.current"))
    return min(free, limit - used) if limit is not None and used is not None else free


def require_room(
    tensors: Iterable[StoredTensor],
    *,
    dtype: torch.dtype,
    device: str,
    max_memory: int | str | None,
    name: str,
) -> None:
    """Refuse a model that does not fit, before it is loaded.

    Raises:
        ModelError: if the weights need more than `max_memory`, or than what is free when that is not given.
    """
    needed = needed_bytes(tensors, dtype)
    room = available_bytes(device) if max_memory is None else parse_size(max_memory)
    if needed <= room:
        return
    limit = "free" if max_memory is None else "allowed by max_memory"
    half = "dtype bfloat16 halves it; " if dtype == torch.float32 else ""
    raise ModelError(
        f"{name} needs about {_gb(needed)} on {device} in {str(dtype).removeprefix('torch.')}; "
        f"{_gb(room)} are {limit}",
        hint=f"{half}a larger max_memory overrides this check",
    )


def _gb(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
