"""Times that can be compared on a machine others use too: one thread, processor time, turns taken, medians."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Times:
    """Processor seconds of one piece of work in each round."""

    seconds: tuple[float, ...]
    share: float = 1.0  # of the whole job that was run

    @property
    def whole(self) -> float:
        """Median seconds of the whole job."""
        return statistics.median(self.seconds) / self.share


def in_turns(
    work: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each piece of work in every round, by default the processor's, after one round unmeasured.

    Rounds go through all orders: what ran before leaves caches and freed memory behind, good or bad, and nothing shall
    always come after the same.
    """
    found: dict[str, list[float]] = {name: [] for name in work}
    orders = list(itertools.permutations(work))
    for turn in range(rounds + 1):
        for name in orders[turn % len(orders)]:
            start = clock()
            work[name]()
            if turn:
                found[name].append(clock() - start)
    return found


def spread_of(seconds: Mapping[str, list[float]]) -> str:
    """Say how far the rounds of each piece of work lie apart.

    Returns:
        Number of rounds, then the least and the largest seconds of each.

    Example:
        >>> spread_of({"ours": [2.0, 1.5, 1.75], "floor": [1.0, 1.25, 1.125]})
        '3 rounds: ours 1.5 to 2 s, floor 1 to 1.25 s'
    """
    rounds = max(map(len, seconds.values()), default=0)
    told = (f"{name} {min(own):.3g} to {max(own):.3g} s" for name, own in seconds.items() if own)
    return f"{rounds} {'round' if rounds == 1 else 'rounds'}: {', '.join(told)}"


def product_rate(rounds: int = 5) -> float:
    """Multiply-adds per second of float32 matrix products of 2,048 rows with a 768 x 3,072 matrix."""
    import torch

    a, b = torch.randn(2048, 768), torch.randn(768, 3072)
    a @ b
    found = []
    for _ in range(rounds):
        start = time.process_time()
        a @ b
        found.append(time.process_time() - start)
    return 2048 * 768 * 3072 / min(found)
