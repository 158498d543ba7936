"""Attention under a mask in two forms: all scores with most closed, and the allowed keys alone.

Usage: ``python -m benchmarks.mask_speed [--most 8192]``. Seconds of the processor on one thread, the least of several
tries, two heads of 32 dimensions; the last row has the power of the length with which each grows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from workbench.masks.gathers import (
    gathered_attention,
    grid_neighborhood_keys,
    masked_attention,
    neighborhood_keys,
    windowed_attention,
)
from workbench.masks.grids import grid_neighborhood
from workbench.masks.sequences import neighborhood, window

HEADS, D_HEAD, WIDTH, SIDE = 2, 32, 32, 5


def seconds(run: Callable[[], object], *, tries: int = 3) -> float:
    """Return the processor's seconds of the fastest of several tries."""
    taken = []
    for _ in range(tries):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return min(taken)


def row(n: int) -> dict[str, float]:
    """Return the seconds of every form at one length, after checking that forms agree."""
    q, k, v = torch.randn(3, 1, HEADS, n, D_HEAD, generator=torch.Generator().manual_seed(n))
    side = int(n**0.5)
    near, around, grid = window(n, WIDTH), neighborhood(n, WIDTH), grid_neighborhood(n, SIDE)
    keys, grid_keys = neighborhood_keys(n, WIDTH), grid_neighborhood_keys(side, side, SIDE)
    pairs = {
        "window": (
            lambda: masked_attention(q, k, v, near),
            lambda: windowed_attention(q, k, v, WIDTH),
        ),
        "neighborhood": (
            lambda: masked_attention(q, k, v, around),
            lambda: gathered_attention(q, k, v, keys),
        ),
        "grid": (
            lambda: masked_attention(q, k, v, grid),
            lambda: gathered_attention(q, k, v, grid_keys),
        ),
    }
    found: dict[str, float] = {"tokens": n}
    for name, (dense, gathered) in pairs.items():
        apart = float((dense() - gathered()).abs().max())
        if apart > 1e-5:
            raise AssertionError(f"{name} of {n} tokens: the two forms differ by {apart:.2g}")
        found |= {f"{name}, dense": seconds(dense), f"{name}, gathered": seconds(gathered)}
    return found


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=4096, help="tokens of the last row, a power of four")
    most = parser.parse_args().most
    torch.set_num_threads(1)
    rows = [row(n) for n in (4**i for i in range(4, 12)) if n <= most]
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for one in rows:
        print("| " + " | ".join(f"{one[name]:.3g}" for name in names) + " |")
    lengths = np.log([one["tokens"] for one in rows])
    powers = [np.polyfit(lengths, np.log([one[name] for one in rows]), 1)[0] for name in names[1:]]
    print("| power | " + " | ".join(f"{power:.2f}" for power in powers) + " |")


if __name__ == "__main__":
    main()
