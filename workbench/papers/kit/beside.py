"""What stands beside a measured number: its kind, its items, its control, its interval, its p."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.stats.dependent_pairs import cluster_index
from workbench.core.stats.intervals import Interval

Range = tuple[float, float] | None


class Measure(NamedTuple):
    """What the values of a condition are: their unit, what they can be, which items are not independent.

    With ``rows`` (the task of every item; questions in the same order in each) tasks and questions are both drawn.
    """

    unit: str
    within: Range
    clusters: Sequence[object]
    rows: Sequence[object] = ()


class Beside(NamedTuple):
    """What was told with a number: its control, how many items it is over, its interval, its p."""

    control: Any = None
    n: int | None = None
    interval: Interval | None = None
    p: float | None = None


def balanced(values: np.ndarray, clusters: Sequence[object]) -> np.ndarray | None:
    """The mean of every cluster, sorted by name where names can be; None where clusters are of different sizes."""
    if len(clusters) != len(values) or not len(clusters):
        return None
    index, names = cluster_index(clusters, len(values)), list[Any](dict.fromkeys(clusters))
    if len(set(np.bincount(index).tolist())) != 1:
        return None
    try:
        order = sorted(range(len(names)), key=lambda i: names[i])
    except TypeError:  # names of several kinds: in the order in which they come
        order = list(range(len(names)))
    return np.array([values[index == i].mean() for i in order])


def finite(name: str, values: np.ndarray, *, undefined: bool = False) -> np.ndarray:
    """Values of a condition, which are numbers.

    Raises:
        OptionError: saying which are not.
    """
    wrong = np.flatnonzero(np.isinf(values) if undefined else ~np.isfinite(values))
    if len(wrong):
        raise OptionError(
            f"{name}: {len(wrong)} of {values.size} values are not finite, the first ({values.flat[wrong[0]]}) at "
            f"item {wrong[0]}",
            hint="leave these items out of every condition, or look for NaN in the model's weights",
        )
    return values


def keys_of(name: str) -> list[str]:
    """The keys of ``one[two][three]``, outermost first."""
    return name.removesuffix("]").replace("][", "[").split("[")


class HasIntervals(Protocol):
    """What has a mean and an interval by name, such as ``Conditions``."""

    def interval(self, name: str, over: str | None = None) -> Interval: ...

    def shown(self, name: str, over: str | None = None, *, form: str = ".3f") -> str: ...


class ToldMean(NamedTuple):
    """A mean (difference) and its interval, told in the form that a text asks for."""

    c: HasIntervals
    name: str
    over: str | None
    bare: bool

    def __format__(self, form: str) -> str:
        if self.bare:
            return self.c.interval(self.name, self.over).shown(form or ".3f", between=", ")
        return self.c.shown(self.name, self.over, form=form or ".3f")
