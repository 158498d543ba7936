"""A selection in which nothing connects input and logits: the smallest one that does, and how to ask for it."""

from __future__ import annotations

from math import ceil, floor, log10

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.scores import Ranking, Scores


def least_connected(scores: Scores, *, by: Ranking = "absolute", select: str = "top", above: int = 0) -> int:
    """Return the smallest number of best edges among which a path leads from input to logits.

    Args:
        above: A number that is known to connect nothing.
    """

    def connects(n: int) -> bool:
        return (scores.choose(n, by=by, select=select)).size > 0

    low, high = above, max(1, 2 * above)
    while high < scores.n_candidates and not connects(high):  # more edges never disconnect
        low, high = high, 2 * high
    high = min(high, scores.n_candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if connects(middle) else (middle, high)
    return high


def connection_advice(
    scores: Scores, circuit: Circuit, *, by: Ranking = "absolute", select: str = "top"
) -> str:
    """Say what to say of an edge-level circuit of no edges: what was chosen, and what would connect; empty for
    others.
    """
    if circuit.size or scores.level != "edge":
        return ""
    chosen, of = int(circuit.selection.get("nominal", 0)), scores.n_candidates
    n = least_connected(scores, by=by, select=select, above=min(chosen, of - 1))
    way = {"top": "", "greedy": " --greedy"}.get(select, f" --select {select}")
    asked = [f"--keep {percent(n, of)}{way} (the best {n:,})"]
    if select == "top":
        asked.append(f"--keep '>={threshold(scores, n, by)}'")
    return (
        f"the circuit has no edges: among the {chosen:,} of {of:,} edges that were chosen no path leads from input to "
        f"logits; the smallest choice that connects them is {' or '.join(asked)}"
    )


def percent(n: int, of: int) -> str:
    """Return the shortest percentage that stands for at least ``n`` of ``of``.

    Example:
        >>> percent(5, 82), percent(1, 32491), percent(82, 82)
        ('6.1%', '0.0031%', '100%')
    """
    share = 100 * n / of
    scale = 10.0 ** max(0, 1 - floor(log10(share)))
    # 1e-9: 100 * 41 / 82 may come out a hair above 50
    return f"{min(100.0, ceil(share * scale - 1e-9) / scale):g}%"


def threshold(scores: Scores, n: int, by: Ranking) -> str:
    """Return a threshold of few digits that keeps at least the ``n`` best edges."""
    values = scores.values[tuple(np.array(scores.ranked(by)[:n]).T)]
    least = float(np.min(np.abs(values) if by == "absolute" else values))
    if least == 0:
        return "0"
    scale = 10.0 ** (3 - floor(log10(abs(least))))
    return f"{floor(least * scale) / scale:.4g}"
