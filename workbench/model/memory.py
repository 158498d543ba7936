"""Will the weights fit? Asked of file headers before anything is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
_SLACK = 1.5  # freed memory that the allocator keeps, and temporaries; a process of its own tests the budget


def parse_size(text: int | str) -> int:
    """Bytes from a number or text like "8GB" (powers of 1000) or "8GiB" (powers of 1024)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(text), re.IGNORECASE)
    if match is None:
        raise OptionError(f"max_memory is {text!r}; a size is expected", hint='"8GB" or a number of bytes')
    unit = match[2].upper()
    factor = 1024 ** "BKMGT".index(unit or "B") if match[3] else _UNITS[unit]
    return int(float(match[1]) * factor)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What a pass over a model's prompts keeps, in numbers (floats).

    Attributes:
        sources: Parts that write to the residual stream; 0 where no edges are worked on.
        d_vocab: Logits of one position; ``all_logits`` where the metric reads every position's.
        gradients: Whether a pass is kept for its backward pass.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    sources: int = 0
    all_logits: bool = False
    gradients: bool = False
    itemsize: int = 4

    def bytes_of(self, batch_tokens: int, length: int, n_pairs: int) -> int:
        """Most bytes beside the weights, when passes take so many tokens."""
        pairs = max(1, min(n_pairs, batch_tokens // (4 * length)))
        batch = pairs * length
        stacked = max(batch, batch_tokens // batch * batch)
        scores = 3 * self.n_heads * length
        one_layer = 12 * self.d_model + 2 * self.d_mlp + scores
        recorded = 2 * (5 * self.n_layers + 1) * self.d_model  # sites of the clean and of the corrupted run
        floats = batch * (recorded + 2 * self.sources * self.d_model) + stacked * one_layer
        if self.sources:  # differences of all sources of every copy, and the readers' own streams
            floats += stacked * (self.sources + 3 * self.n_heads) * self.d_model
        if self.gradients:
            tape = self.n_layers * (18 * self.d_model + 6 * self.d_mlp + scores)
            floats += batch * (tape + 5 * self.n_layers * self.d_model)
        rows = stacked if self.all_logits else stacked // length
        return int(_SLACK * self.itemsize * (floats + 3 * rows * self.d_vocab))


def tokens_within(
    budget: int | str,
    work: Activations,
    *,
    lengths: Sequence[int],
    resident: int,
    most: int,
) -> int:
    """Largest ``batch_tokens``, ``most`` or that halved again and again, whose passes stay within a budget.

    Args:
        budget: Of the whole process: "4GB" or a number of bytes.
        lengths: Tokens of each pair.
        resident: Bytes that are taken already, weights included.

    Raises:
        ModelError: if one pair in one pass does not fit.
    """
    room, kinds = parse_size(budget) - resident, sorted(set(lengths))
    counts = {length: list(lengths).count(length) for length in kinds}

    def needed(tokens: int) -> int:
        return max(work.bytes_of(tokens, length, counts[length]) for length in kinds)

    tokens = most
    while needed(tokens) > room and tokens > kinds[-1]:
        tokens = max(kinds[-1], tokens // 2)
    if needed(tokens) > room:
        raise ModelError(
            f"max_memory is {_gb(parse_size(budget))}; the open model takes {_gb(resident)} and one pair of "
            f"{kinds[-1]} tokens about {_gb(needed(tokens))} more",
            hint=f"--max-memory {math.ceil((resident + needed(tokens)) / 1e8) / 10:.1f}GB, or shorter prompts",
        )
    return tokens


def resident_bytes(device: str) -> int:
    """Memory that is taken already: of this process on a CPU, by torch on a GPU."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(torch.device(device))
    return psutil.Process().memory_info().rss


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
    half = "--dtype bfloat16 halves it; " if dtype == torch.float32 else ""
    raise ModelError(
        f"{name} needs about {_gb(needed)} on {device} in {str(dtype).removeprefix('torch.')}; "
        f"{_gb(room)} are {limit}",
        hint=f"{half}a larger --max-memory overrides this check",
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
