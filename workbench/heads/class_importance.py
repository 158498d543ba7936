"""Which heads are active when an item is of a class: the mean of a head's activity given the class."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from workbench.core.errors import OptionError


def class_importance(
    activity: Float[np.ndarray, "item head"], classes: Int[np.ndarray, " item"], *, n: int
) -> Float[np.ndarray, "class head"]:
    """Return by how many standard deviations each head is more active for items of a class than for all items.

    Args:
        activity: Of every head, such as the norm of what it writes or its attention to a span.
        classes: Of every item, from 0 on.
        n: How many classes there are.

    Returns:
        Positive where a head is more active for that class; 0 for a head that is the same for all items; NaN for a
        class that no item is of.

    Raises:
        OptionError: for a class beyond ``n``.

    Example:
        >>> activity = np.array([[1.0, 5.0], [3.0, 5.0]])
        >>> class_importance(activity, np.array([0, 1]), n=2).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    if classes.min() < 0 or classes.max() >= n:
        raise OptionError(
            f"classes run from {classes.min()} to {classes.max()}; 0 to {n - 1} are expected",
            hint="n=classes.max() + 1",
        )
    spread = activity.std(0)
    apart = (activity - activity.mean(0)) / np.where(spread > 0, spread, 1.0)
    there = [classes == one for one in range(n)]
    return np.stack([apart[own].mean(0) if own.any() else np.full(apart.shape[1], np.nan) for own in there])
