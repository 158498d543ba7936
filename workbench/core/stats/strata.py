"""Samples drawn by strata of size: the largest items all, of the smaller ones a few that stand for many.

A statistic of all items is estimated by giving each drawn item a weight: how many items of its stratum it stands for.
Its interval is by bootstrap: each stratum is filled up to its size with copies of what was drawn from it, and drawn
from again without replacement. A stratum that was drawn whole therefore adds nothing to the interval.

Source:
    Gross 1980, Median estimation in sample surveys; Booth, Butler and Hall 1994, JASA 89.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.errors import OptionError

if TYPE_CHECKING:  # only annotations
    from jaxtyping import Float, Int

MOST_STRATA = 4
LEAST_DRAWN = 4  # fewer points say nothing of how two lists agree


@dataclass(frozen=True, kw_only=True, eq=False)
class Stratified:
    """Items that were drawn, and which stratum each is of.

    Attributes:
        items: Indices of the drawn items, ascending.
        stratum: Of each drawn item; 0 has the largest sizes.
        counts: How many items each stratum has, drawn or not.
    """

    items: Int[np.ndarray, " drawn"]
    stratum: Int[np.ndarray, " drawn"]
    counts: Int[np.ndarray, " stratum"]

    @property
    def drawn(self) -> Int[np.ndarray, " stratum"]:
        """How many items of each stratum were drawn."""
        return np.bincount(self.stratum, minlength=len(self.counts))

    @property
    def weights(self) -> Float[np.ndarray, " drawn"]:
        """How many items each drawn one stands for, itself included; they sum to the number of all items."""
        return (self.counts / self.drawn)[self.stratum]

    @property
    def whole(self) -> bool:
        """Whether every item was drawn."""
        return bool((self.drawn == self.counts).all())

    def resampled(self, *, draws: int, seed: int = 0) -> Float[np.ndarray, "draw drawn"]:
        """Return the weights in each resample; 0 where an item is not in it."""
        rng = np.random.default_rng(seed)
        found = np.zeros((draws, len(self.items)))
        for one, (count, drawn) in enumerate(zip(self.counts, self.drawn, strict=True)):
            mine = np.flatnonzero(self.stratum == one)
            for row in found:
                copies = np.full(drawn, count // drawn)
                copies[rng.permutation(drawn)[: count % drawn]] += 1
                row[mine] = rng.multivariate_hypergeometric(copies, drawn) * (count / drawn)
        return found


def stratified(sizes: Float[np.ndarray, " item"], n: int, *, seed: int = 0) -> Stratified:
    """Draw ``n`` items by strata of size.

    Items are put in order of ``|size|``, largest first. Up to four strata get the same number of draws each. The first
    is as large as its draws, so the largest items are all drawn; each following stratum is larger by one common factor,
    such that together they are all items. Within a stratum every item has the same chance. Each item has a random
    number of its own, by the seed, and those of the smallest numbers are drawn: two lists of sizes over the same items
    share most of their draws, and sizes that exchange places within a stratum change nothing. Sizes that differ by
    less than a millionth of the largest count as equal and keep their order.

    Returns:
        What was drawn; all items where there are not more than ``n``.

    Raises:
        OptionError: for fewer than four draws.

    Example:
        >>> found = stratified(np.array([9.0, 0.1, -8.0, 0.2, 0.3, 0.4]), 4)
        >>> found.counts.tolist(), found.drawn.tolist(), float(found.weights.sum())
        ([2, 4], [2, 2], 6.0)
        >>> {0, 2} <= set(found.items.tolist())  # the two largest are always drawn
        True
    """
    if n < LEAST_DRAWN:
        raise OptionError(f"a sample of {n} is too small", hint=f"draw at least {LEAST_DRAWN}")
    largest = float(np.abs(sizes).max(initial=0.0)) or 1.0
    order = np.argsort(-np.round(np.abs(sizes) / largest, 6), kind="stable")
    keys = np.random.default_rng(seed).random(len(sizes))
    items, stratum, start = [], [], 0
    counts: list[int] = []
    for drawn, end in _bounds(len(sizes), min(n, len(sizes))):
        mine = order[start:end]
        items.append(mine[np.argsort(keys[mine], kind="stable")[:drawn]])
        stratum.append(np.full(drawn, len(counts)))
        counts.append(len(mine))
        start = end
    found, of = np.concatenate(items), np.concatenate(stratum)
    ascending = np.argsort(found)
    return Stratified(items=found[ascending], stratum=of[ascending], counts=np.array(counts))


def _bounds(total: int, n: int) -> list[tuple[int, int]]:
    """Draws and end of each stratum: ``draws * factor ** k`` items, which sum to all."""
    strata = max(1, min(MOST_STRATA, n // 2))
    drawn = np.array([n // strata + (k < n % strata) for k in range(strata)])
    powers = np.arange(strata)
    low, high = 1.0, float(max(total, 2))
    for _ in range(200):  # bisection to the last digit
        factor = (low + high) / 2
        low, high = (factor, high) if (drawn * factor**powers).sum() < total else (low, factor)
    ends = np.round(np.cumsum(drawn * high**powers)).astype(int)
    ends[-1] = total
    return list(zip(drawn.tolist(), ends.tolist(), strict=True))
