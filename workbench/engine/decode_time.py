"""How long one generated token takes here, by context: a layer's weights, keys and values, with random numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.engine.threads import one_thread


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A layer of a decoder: heads that share keys in groups, and an MLP of four times the width.

    Raises:
        OptionError: if the heads do not share keys in equal groups.
    """

    heads: int
    kv_heads: int
    d_head: int

    def __post_init__(self) -> None:
        if min(self.heads, self.kv_heads, self.d_head) < 1 or self.heads % self.kv_heads:
            raise OptionError(
                f"{self.heads} heads cannot share {self.kv_heads} keys in equal groups",
                hint="heads=8, kv_heads=8, d_head=64",
            )

    @property
    def width(self) -> int:
        """Numbers in the residual stream."""
        return self.heads * self.d_head

    @property
    def parameters(self) -> int:
        """Weights: queries and outputs, keys and values, and the MLP."""
        return 2 * self.width**2 + 2 * self.width * self.kv_heads * self.d_head + 8 * self.width**2

    def flop(self, context: int) -> float:
        """Operations of one token: two for each weight, and scores and values of all heads."""
        return 2.0 * self.parameters + 4.0 * context * self.width

    def read(self, context: int) -> float:
        """Numbers of keys and values that one token reads."""
        return 2.0 * context * self.kv_heads * self.d_head


def decode_step(shape: LayerShape, context: int, *, seed: int = 0) -> Callable[[], Float[Tensor, "1 width"]]:
    """Make what one token computes in a layer whose keys and values of ``context`` tokens are kept.

    Returns:
        A function without arguments; every call reads all keys and values once.
    """
    draw = torch.Generator().manual_seed(seed)

    def drawn(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw) / size[-1] ** 0.5

    width, groups, d = shape.width, shape.kv_heads, shape.d_head
    x, into, out = drawn(1, width), drawn(width, width), drawn(width, width)
    both, up, down = drawn(width, 2 * groups * d), drawn(width, 4 * width), drawn(4 * width, width)
    keys, values = drawn(groups, d, context), drawn(groups, context, d)

    def step() -> Tensor:
        q = (x @ into).reshape(groups, -1, d)
        new = x @ both
        weights = ((q @ keys) / d**0.5).softmax(-1)
        y = x + (weights @ values).reshape(1, width) @ out + 0 * new[:, :1]
        return y + torch.relu(y @ up) @ down

    return step


def seconds_of(step: Callable[[], object], *, repeats: int = 7) -> float:
    """Return the least seconds of the processor that a step took, after one that is not counted.

    Raises:
        OptionError: for fewer than one repeat.
    """
    if repeats < 1:
        raise OptionError(f"repeats is {repeats}; at least 1 is needed", hint="repeats=7")
    step()
    found = []
    for _ in range(repeats):
        start = time.thread_time()
        step()
        found.append(time.thread_time() - start)
    return min(found)


def token_times(
    contexts: Sequence[int], *, kv_heads: Sequence[int], heads: int, d_head: int, repeats: int, seed: int = 0
) -> Rows:
    """Measure the time of one token on one core, in layers that differ in how many heads share keys.

    Returns:
        One row per number of KV heads and context: operations, numbers read, and the least seconds of ``repeats``.
    """
    rows: Rows = []
    with one_thread():
        for shared in kv_heads:
            shape = LayerShape(heads=heads, kv_heads=shared, d_head=d_head)
            for context in contexts:
                step = decode_step(shape, context, seed=seed)
                rows.append({
                    "KV heads": shared, "context": context, "FLOP": shape.flop(context),
                    "numbers read": shape.read(context), "seconds": seconds_of(step, repeats=repeats),
                })  # fmt: skip
    return rows


def processor_seconds(run: Callable[[], object], *, tries: int = 7, each: int = 4) -> float:
    """Return the seconds of the processor that a run took, all threads together, the least of several tries.

    Args:
        each: Runs of one try, of which the mean counts.

    Returns:
        At least 1e-7: the clock has steps, and a logarithm of it has to exist.
    """
    taken = []
    for _ in range(tries):
        begun = time.process_time()
        for _ in range(each):
            run()
        taken.append((time.process_time() - begun) / each)
    return max(min(taken), 1e-7)
