"""Sign flips: which of many mean effects are clear of zero, when the same pairs stand behind all of them.

If an effect does nothing, its value on a pair is as likely negative as positive. Turning the signs of whole clusters
round, the same for every effect, keeps what the effects share. A p value is the share of turns under which an effect
looks at least as large as it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workbench.core.stats.dependent_pairs import Clusters, cluster_index, cluster_sums
from workbench.core.stats.multiplicity import benjamini_hochberg, survivors_needed

DRAWS = 9999
EXACT = 13  # clusters up to which all 2 ** (n - 1) turns are gone through: fewer than DRAWS
_BLOCK = 250_000  # numbers at once: 2 MB, which fit in a cache
_TIE = 1e-9  # of the largest possible statistic: sums in another order


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a test of so many effects on so many independent pairs can show at all, known before anything is run.

    Attributes:
        grouped: Whether the clusters hold several pairs each.
    """

    tests: int
    clusters: int
    draws: int = DRAWS
    alpha: float = 0.05
    grouped: bool = False

    @property
    def exact(self) -> bool:
        """Whether all turns of signs are gone through, not only some drawn by chance."""
        return self.clusters <= EXACT

    @property
    def smallest(self) -> float:
        """The smallest p there can be: ``2 ** (1 - n)``, or ``1 / (draws + 1)``."""
        return 2.0 ** (1 - self.clusters) if self.exact else 1 / (self.draws + 1)

    @property
    def needed(self) -> int:
        """How many effects must have the smallest p together before one of them is marked."""
        return survivors_needed(self.smallest, self.tests, alpha=self.alpha)

    @property
    def words(self) -> str:
        """One sentence."""
        how = f"all {2 ** (self.clusters - 1):,}" if self.exact else f"{self.draws:,}"
        of = "groups of pairs" if self.grouped else "independent pairs"
        what = f"{how} sign flips of {self.clusters} {of}"
        least = f"{what}: the smallest p is {self.smallest:.2g}"
        if self.needed > self.tests:
            return (
                f"{least}, so none of {self.tests} effects can survive the correction; more pairs are needed"
            )
        if self.needed == 1:
            return f"{least}, so a single one of {self.tests} effects can survive the correction"
        return f"{least}, so {self.needed} or more of {self.tests} effects must be clear before any is marked"

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        names = ("tests", "clusters", "grouped", "alpha", "exact", "smallest", "needed", "words")
        return {**{name: getattr(self, name) for name in names}, "draws": None if self.exact else self.draws}


@dataclass(frozen=True, kw_only=True, eq=False)
class SignFlips:
    """The test of many effects together.

    Attributes:
        p: ``(row,)`` of each by itself.
        q: ``(row,)`` after Benjamini-Hochberg: the false-discovery rate at which it would be marked.
        family: ``(row,)`` by the largest statistic of all rows under each turn (max-T): the chance that any row
            looks like this by accident, whatever the rows share.
    """

    p: np.ndarray
    q: np.ndarray
    family: np.ndarray
    resolution: Resolution

    @property
    def survives(self) -> np.ndarray:
        """``(row,)`` whether q is at most alpha."""
        return self.q <= self.resolution.alpha


def sign_flips(
    values: np.ndarray,
    clusters: Clusters | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = 0.05,
    seed: int = 0,
) -> SignFlips:
    """Test that each row of ``(row, pair)`` values is symmetric about zero.

    The statistic is ``|sum| / root of the sum of squares`` over clusters, which orders turns as Student's t does.
    Up to 13 clusters every turn is gone through; else ``p = (1 + as large) / (1 + draws)``.

    Source:
        Fisher 1935, The Design of Experiments, section 21; max-T: Westfall and Young 1993.

    Example:
        >>> sign_flips(np.array([[1.0, 2.0, 1.5, 0.5, 1.0]])).p.tolist()
        [0.0625]
    """
    values = np.asarray(values, dtype=float)
    sums = cluster_sums(values, cluster_index(clusters, values.shape[1]))
    rows, n = sums.shape
    size = np.sqrt((sums**2).sum(1))
    unit = np.divide(sums, size[:, None], out=np.zeros_like(sums), where=size[:, None] > 0)
    seen = np.abs(unit.sum(1)) - _TIE * np.sqrt(max(n, 1))
    grouped = n < values.shape[1]
    resolution = Resolution(tests=rows, clusters=n, draws=draws, alpha=alpha, grouped=grouped)
    single, largest = np.zeros(rows), []
    for signs in _turns(n, resolution, seed, max(1, _BLOCK // max(1, rows, n))):
        found = np.abs(signs @ unit.T)  # (turn, row)
        single += (found >= seen).sum(0)
        largest.append(found.max(1, initial=0.0))
    tops = np.sort(np.concatenate(largest))
    above = len(tops) - np.searchsorted(tops, seen, side="left")
    more = 0 if resolution.exact else 1  # the turn that was seen is one of all, not one of those drawn
    p, family = (single + more) / (len(tops) + more), (above + more) / (len(tops) + more)
    idle = size == 0
    p[idle], family[idle] = 1.0, 1.0
    return SignFlips(p=p, q=benjamini_hochberg(p), family=family, resolution=resolution)


def _turns(n: int, resolution: Resolution, seed: int, block: int) -> Iterator[np.ndarray]:
    """Blocks of ``(turn, cluster)`` signs: every one with the first sign fixed (the rest are mirrored), or drawn."""
    if resolution.exact:
        count = 2 ** max(n - 1, 0)
        for start in range(0, count, block):
            codes = np.arange(start, min(start + block, count))
            yield 1.0 - 2.0 * ((codes[:, None] >> np.arange(n)) & 1)
        return
    rng, left = np.random.default_rng(seed), resolution.draws
    while left:
        step = min(block, left)
        yield 1.0 - 2.0 * rng.integers(0, 2, (step, n))
        left -= step
