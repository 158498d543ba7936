"""Will the weights fit? Asked of file headers before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from workbench.core.errors import ModelError
from workbench.model.settings import SET_ASIDE, parse_size, size_said
from workbench.model.stored_tensors import StoredTensor

_FACTOR = (
    1.15  # 1.05 x the weights stay resident after booting a GPT-2-small-sized model; the rest is activations
)
_FLOATS = {"F64", "F32", "F16", "BF16"}
_SLACK = 1.2  # freed memory that the allocator keeps, and temporaries; a process of its own tests the budget
_HOOKED = 1.25  # more for tapes of the hooked model: EAP-IG on 512 tokens of Gemma 2's shape was 5 % above
_AGAIN = 1.01  # the same process takes a little more or less when it is started again
_ROWS = 2048  # tokens of rows that plain blocks compute at once
_TRIED = 4  # prompts that plain blocks are compared on
_MOST_STACKED = 1.5e8  # differences of stacked copies, in numbers
_MOST_KEPT = 10**8  # scores of every pair by itself, in numbers


@dataclass(frozen=True, kw_only=True)
class PictureRoom:
    """What pictures keep in passes, in numbers.

    Attributes:
        pixels: One picture.
        n_pictures: Different pictures of all prompts.
        n_positions, n_layers, n_heads, d_model, d_mlp: Of the tower behind which a language model stands; 0 where there
            is none, or the tower is the model itself.
        entered: What enters the language model of one prompt, kept from then on, and the most that is kept of all.
        most_entered: See there.
        in_tower: Passes with many copies begin in the tower, and not only behind it.
        held: Pictures that are kept in memory as they were loaded, those that are there already left out.
    """

    pixels: int
    n_pictures: int
    n_positions: int = 0
    n_layers: int = 0
    n_heads: int = 0
    d_model: int = 0
    d_mlp: int = 0
    entered: int = 0
    most_entered: int = 0
    in_tower: bool = False
    held: int = 0

    def floats(self, pairs: int, copies: int) -> int:
        """Most numbers, with so many pairs in a batch and copies of prompts in a pass."""
        looked = copies if self.in_tower or not self.n_layers else pairs
        tokens = looked * self.n_positions
        layer = 10 * self.d_model + 4 * self.d_mlp + 4 * self.n_heads * self.n_positions
        patterns = tokens * self.n_layers * self.n_heads * self.n_positions
        recorded = pairs * self.n_positions * (3 * self.n_layers + 1) * self.d_model
        kept = min(self.most_entered, self.n_pictures * self.entered)
        # each picture as it is, scaled, and once more for each of its copies
        return 3 * looked * self.pixels + tokens * layer + patterns + recorded + kept + self.held


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What passes over a model's prompts keep, in numbers (floats); each term was compared with what torch keeps.

    Attributes:
        d_heads: What all heads of a layer give together; ``d_model`` where it is 0.
        sources: Parts that write to the residual stream; 0 where no edges are worked on.
        d_vocab: Logits of one position; ``all_logits`` where the metric reads every position's.
        gradients: Whether a pass is kept for its backward pass.
        stacked: Whether copies with ablated edges are run.
        plain: No pass goes through the hooked model, but for the one that plain blocks are compared with.
        gated: MLPs multiply two projections.
        patterns: Attention patterns of a layer that the hooked model keeps for its backward pass.
        batch_floats: Most numbers that all sources of one batch write.
        tape_floats: Most numbers that one pass keeps for its backward pass, where more than one pair is run.
        pictures: What the prompts' pictures keep besides; None where they have none.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    d_heads: int = 0
    sources: int = 0
    all_logits: bool = False
    gradients: bool = False
    stacked: bool = True
    plain: bool = False
    gated: bool = False
    patterns: int = 1
    batch_floats: float = math.inf
    tape_floats: float = math.inf
    itemsize: int = 4
    pictures: PictureRoom | None = None

    def bytes_of(self, batch_tokens: int, length: int, n_pairs: int) -> int:
        """Most bytes beside the weights, when passes take so many tokens."""
        written = (1 + self.n_layers * (self.n_heads + 1)) * self.d_model
        pairs = max(1, min(n_pairs, int(min(batch_tokens // 4, self.batch_floats / written)) // length))
        most = self._edges(batch_tokens, length, pairs) if self.sources and self.stacked else 0
        if self.gradients:
            most = max(most, self._tape(length, pairs, n_pairs))
        if not self.sources:
            most = self._sweep(batch_tokens, length, pairs)
        if self.pictures is not None:
            most += self.pictures.floats(pairs, max(pairs, batch_tokens // length))
        return int(_SLACK * self.itemsize * most) + SET_ASIDE

    def trial_bytes(self, length: int, pairs: int) -> int:
        """Return bytes of a hooked pass that plain blocks are compared with."""
        return int(_SLACK * self.itemsize * self._hooked(pairs * length, length)) + SET_ASIDE

    @property
    def _heads(self) -> int:
        return self.d_heads or self.d_model

    def _left(self, tokens: int, length: int) -> int:
        """TransformerLens keeps the last pass's patterns of every layer, also after it."""
        return tokens * self.n_layers * self.n_heads * length

    def _layer(self) -> int:
        """What one layer holds while it is computed, at one token; without patterns."""
        return 10 * self.d_model + (3 if self.plain else 4) * self.d_mlp

    def _hooked(self, tokens: int, length: int) -> int:
        """A recorded pass of the hooked model."""
        own = (self.n_layers + 1) * self.d_model + 3 * self.n_heads * length + self._layer()
        return self._left(tokens, length) + tokens * own

    def _logits(self, rows: int, length: int) -> int:
        return 3 * (rows if self.all_logits else rows // length) * self.d_vocab

    def _sweep(self, batch_tokens: int, length: int, pairs: int) -> int:
        """Exact effects: the recorded run and the other's values, keys and values, rows of edited copies."""
        batch = pairs * length
        recorded = batch * (self.n_layers * (2 * self.d_model + 4 * self._heads) + self.d_model)
        if self.plain:  # rows of plain blocks are few; what leaves the last layer is measured in parts
            rows = max(length, min(batch_tokens, _ROWS))
            kept = recorded + rows * self._layer()
            return max(kept, self._hooked(batch, length)) + self._logits(pairs * length, length)
        stacked = max(batch, batch_tokens // batch * batch)
        one = self._layer() + 4 * self.n_heads * length
        return recorded + self._left(stacked, length) + stacked * one + self._logits(stacked, length)

    def _edges(self, batch_tokens: int, length: int, pairs: int) -> int:
        """Ablated edges: what all sources write, and in every copy their differences and the readers' own streams."""
        batch, own = pairs * length, (self.sources + 3 * self.n_heads) * self.d_model
        copies = max(1, min(batch_tokens // batch, int(_MOST_STACKED // (batch * own))))
        stacked = copies * batch
        once = 2 * (self.n_layers * (self.d_model + self._heads) + self.d_model)
        floats = batch * (2 * self.sources * self.d_model + once) + stacked * (own + self._layer())
        tried = min(_TRIED * length, batch) if self.plain else stacked
        if not self.plain:
            floats += self._left(tried, length) + 4 * stacked * self.n_heads * length
        return max(floats, self._hooked(tried, length)) + self._logits(stacked, length)

    def _tape(self, length: int, pairs: int, n_pairs: int) -> int:
        """Gradients: outputs of all sources in both runs, the tape of a piece, gradients and their sums, products."""
        bound = self.n_layers * (18 * self.d_model + 6 * self.d_mlp + 3 * self.n_heads * length)
        parts = -(-pairs // max(1, int(min(pairs, self.tape_floats / (bound * length)))))
        tokens = -(-pairs // parts) * length
        written = 3 * (self.n_layers * (self.d_model + self._heads) + self.d_model)
        flowing = 2 * (self.n_layers * (self.d_model + 3 * self._heads) + self.d_model)
        targets = 3 * self.n_heads + 1
        products = self.sources * self.d_model + targets * (self.d_model + 2 * self.sources)
        if self.plain:
            tried = min(_TRIED * length, tokens)
            tape = self.n_layers * (9 * self.d_model + (3 if self.gated else 1) * self.d_mlp)
            # twice: freed parts of one point's tape are not all used again; EAP-IG on 1,024 tokens was 0.3 GB above
            trial, floats = self._hooked(tried, length), 2 * tokens * tape
        else:
            kept = (
                11 * self.d_model
                + (3 if self.gated else 4) * self.d_mlp
                + self.patterns * self.n_heads * length
            )
            trial, floats = 0, int(_HOOKED * tokens * (self.n_layers * kept + 6 * self.n_heads * length))
        per_pair = n_pairs * self.sources * (self.n_layers * targets + 1)
        floats += 3 * per_pair if per_pair <= _MOST_KEPT else 0
        floats += tokens * (written + flowing + products)
        return max(floats, trial) + self._logits(tokens, length)


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
            f"max_memory is {size_said(parse_size(budget))}; the open model takes {size_said(resident)}, one pair of "
            f"{kinds[-1]} tokens about {size_said(needed(tokens) - SET_ASIDE)} more, "
            f"and {size_said(SET_ASIDE)} are set aside for modules that are loaded on the way and Python's own objects",
            hint=f"--max-memory {math.ceil(_AGAIN * (resident + needed(tokens)) / 1e8) / 10:.1f}GB, or shorter prompts",
        )
    return tokens


def resident_bytes(device: str) -> int:
    """Return the memory that is taken already: of this process on a CPU, by torch on a GPU."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(torch.device(device))
    return psutil.Process().memory_info().rss


def is_out_of_memory(problem: BaseException) -> bool:
    """Say whether an error says that memory ran out; on a CPU torch says it in a plain RuntimeError."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(problem).lower()
    return isinstance(problem, RuntimeError) and ("allocate memory" in text or "out of memory" in text)


def needed_bytes(tensors: Iterable[StoredTensor], dtype: torch.dtype) -> int:
    """Return the memory that a model of these tensors takes once loaded in `dtype`."""
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
        f"{name} needs about {size_said(needed)} on {device} in {str(dtype).removeprefix('torch.')}; "
        f"{size_said(room)} are {limit}",
        hint=f"{half}a larger --max-memory overrides this check",
    )


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
