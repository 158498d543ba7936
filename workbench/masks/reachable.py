"""How much a mask lets through: keys of each query, and what is reached through layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.core.claims import Rows
from workbench.core.errors import OptionError

Allowed = Bool[Tensor, "query key"]


def degree(allowed: Bool[Tensor, "*rows query key"]) -> Int[Tensor, "*rows query"]:
    """Return how many keys each query may look at.

    Example:
        >>> from workbench.masks.sequences import window
        >>> degree(window(5, 3)).tolist()
        [1, 2, 3, 3, 3]
    """
    return allowed.sum(-1)


def reach(masks: Sequence[Allowed]) -> Allowed:
    """Say what each query can have received information from after these layers, the first mask first.

    A token keeps what it has (the residual stream), so it always reaches itself.
    """
    found = torch.eye(len(masks[0]), dtype=torch.bool)
    for allowed in masks:
        found = found | ((allowed.float() @ found.float()) > 0)
    return found


def reached(mask: Allowed, layers: int, query: int = -1) -> list[int]:
    """Say how many tokens one query reaches after 1, 2, ... layers of the same mask.

    Example:
        >>> from workbench.masks.sequences import window
        >>> reached(window(64, 9), 3)
        [9, 17, 25]
    """
    found, counts = torch.eye(len(mask), dtype=torch.bool), list[int]()
    for _ in range(layers):
        found = found | ((mask.float() @ found.float()) > 0)
        counts.append(int(found[query].sum()))
    return counts


def without_gaps(mask: Allowed, layers: int, query: int = -1) -> list[int]:
    """Say how many tokens next behind a query (itself included) it reaches without a gap after 1, 2, ... layers.

    Example:
        >>> from workbench.masks.sequences import powers_of_two
        >>> without_gaps(powers_of_two(256), 4), without_gaps(powers_of_two(256), 8)[-1]
        ([3, 7, 15, 31], 256)
    """
    found, counts = torch.eye(len(mask), dtype=torch.bool), list[int]()
    for _ in range(layers):
        found = found | ((mask.float() @ found.float()) > 0)
        behind = found[query][: query % len(mask) + 1].flip(0)
        counts.append(int(behind.int().cumprod(0).sum()))
    return counts


def reach_rows(masks: Mapping[str, Allowed], layers: int) -> Rows:
    """Say of masks by name what the last query reaches after 1, 2, ... layers, and how much of it without a gap.

    Returns:
        One row per mask and number of layers, in counts of tokens.

    Example:
        >>> from workbench.masks.sequences import window
        >>> reach_rows({"window": window(64, 9)}, 2)[1]
        {'mask': 'window', 'layers': 2, 'reached': 17, 'without a gap': 17}
    """
    return [
        {"mask": name, "layers": i, "reached": all_of_them, "without a gap": next_behind}
        for name, mask in masks.items()
        for i, (all_of_them, next_behind) in enumerate(
            zip(reached(mask, layers), without_gaps(mask, layers), strict=True), start=1
        )
    ]


def layers_to_reach(mask: Allowed, distance: int, *, most: int = 64) -> int | None:
    """Say after how many layers of a mask the last query reaches every token up to so far behind it.

    Returns:
        The number of layers; None if ``most`` do not suffice.

    Example:
        >>> from workbench.masks.sequences import powers_of_two, window
        >>> layers_to_reach(powers_of_two(64), 60), layers_to_reach(window(64, 7), 60)
        (5, 10)
    """
    if not 0 <= distance < len(mask):
        raise OptionError(
            f"distance {distance} is not among {len(mask)} tokens", hint=f"0 to {len(mask) - 1}"
        )
    counts = without_gaps(mask, most)
    return next((layers for layers, count in enumerate(counts, start=1) if count > distance), None)
