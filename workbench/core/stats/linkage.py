"""Groups by average linkage: the two most alike groups are joined, until none are alike enough."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def average_linkage(alike: Float[np.ndarray, "item item"], at_least: float) -> list[list[int]]:
    """Join items to groups while the mean likeness between two groups is at least a threshold.

    Returns:
        Groups of item numbers, each in order, largest group first; every item is in exactly one.

    Example:
        >>> average_linkage(np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]]), 0.5)
        [[0, 1], [2]]
    """
    groups = [[i] for i in range(len(alike))]
    between = np.array(alike, dtype=float)
    np.fill_diagonal(between, -np.inf)
    while len(groups) > 1:
        one, two = sorted(np.unravel_index(int(between.argmax()), between.shape))
        if not between[one, two] >= at_least:
            break
        sizes = len(groups[one]), len(groups[two])
        joined = (sizes[0] * between[one] + sizes[1] * between[two]) / sum(sizes)
        between[one], between[:, one] = joined, joined
        between[one, one] = -np.inf
        between = np.delete(np.delete(between, two, 0), two, 1)
        groups[one] += groups.pop(two)
    return sorted((sorted(group) for group in groups), key=lambda group: (-len(group), group))
