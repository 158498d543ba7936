"""How much work a computation does, counted while it runs: the same number on every machine, however busy it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class CountedWork(NamedTuple):
    """What a computation did.

    Attributes:
        multiply_adds: Of products of matrices.
        written: Numbers that all its operations wrote; views write none.
    """

    multiply_adds: int
    written: int


def counted_work(run: Callable[[], object]) -> CountedWork:
    """Count the work of a computation, operation by operation as torch carries it out.

    Example:
        >>> counted_work(lambda: torch.ones(2, 3) @ torch.ones(3, 4))  # 2 * 3 * 4; 6 + 12 ones and 8 sums
        CountedWork(multiply_adds=24, written=26)
    """
    with torch.no_grad(), FlopCounterMode(display=False) as products, _Written() as writes:
        run()
    return CountedWork(products.get_total_flops() // 2, writes.total)


class _Written(TorchDispatchMode):
    """Adds up the sizes of outputs that are not views of what went in."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += sum(out.numel() for out in tree_leaves(found) if isinstance(out, Tensor))
        return found
