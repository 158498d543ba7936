"""Hypothesis tests on a circuit's scores: equivalence, independence, minimality of edges, rank among random ones.

Source:
    Shi et al. 2024, arXiv:2410.13032.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.core.errors import OptionError, ShapeError
from workbench.core.show import Shown
from workbench.core.stats.binomial import at_least, at_most, binomial
from workbench.core.stats.intervals import ROUNDING
from workbench.core.stats.multiplicity import CORRECTIONS
from workbench.core.text import printable


@dataclass(frozen=True, kw_only=True)
class TestResult(Shown, shown_in="workbench.circuits.show.notebook"):
    """One hypothesis test: what was assumed, what was seen, how likely that is, and what follows.

    Attributes:
        null: The hypothesis that a small ``p`` speaks against.
        corrected: ``p`` after correction for all tests of the family; ``p`` itself when there is one.
        seed: Seed of a permutation or of sampled circuits; None where nothing is random.
    """

    __test__ = False  # it is not a test of ours

    name: str
    null: str
    statistic: str
    value: float
    p: float
    corrected: float
    n: int
    verdict: str
    correction: str = "none"
    alpha: float = 0.05
    seed: int | None = None

    @property
    def rejected(self) -> bool:
        return self.corrected < self.alpha

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "rejected": self.rejected}

    def __repr__(self) -> str:
        text = f"{self.name}: {self.statistic} {self.value:.4g}, p {self.corrected:.3g}, {self.verdict}"
        return printable(f"<{text}>")


def equivalence_p(wins: int, n: int, *, epsilon: float = 0.1) -> float:
    """Return the probability of a share of wins as far from one half as this, if the true share is ``1/2 +
    epsilon``.

    ``p = sum over j with |j/n - 1/2| >= |wins/n - 1/2| of Binom(j; n, 1/2 + epsilon)``

    Example:
        >>> [round(equivalence_p(wins, 250), 4) for wins in (125, 165)]
        [1.0, 0.0297]
    """
    if not 0 <= wins <= n or n < 1:
        raise OptionError(
            f"wins is {wins}, n {n}; expected wins from 0 to n, and n at least 1",
            hint="equivalence_p(125, 250)",
        )
    far = np.abs(2 * np.arange(n + 1) - n) >= abs(2 * wins - n)  # whole numbers: no rounding decides a tie
    return min(1.0, float(binomial(n, 0.5 + epsilon)[far].sum()))


def equivalence(
    circuit: np.ndarray, model: np.ndarray, *, epsilon: float = 0.1, alpha: float = 0.05
) -> TestResult:
    """Test whether the circuit is as likely to beat the model as to lose; one value per pair each, ties are halved.

    With an odd number of ties ``p`` is the mean of both ways to halve them: wins and losses may be exchanged.

    Args:
        epsilon: How far from one half the probability of a win may be.

    Returns:
        ``value`` is the share of pairs on which the circuit is above the model, from 0 to 1; ``p`` is two-sided.

    Example:
        >>> import workbench as wb
        >>> import numpy as np
        >>> model = np.linspace(1, 2, 50)
        >>> wb.equivalence(model, model).value
        0.5
    """
    circuit, model = _two("equivalence", circuit, model)
    tied = np.abs(circuit - model) <= ROUNDING * np.abs(model).max()
    wins, ties = int((~tied & (circuit > model)).sum()), int(tied.sum())
    n = len(model)
    halved = (wins + ties // 2, wins + (ties + 1) // 2)
    p = sum(equivalence_p(count, n, epsilon=epsilon) for count in halved) / 2
    way = "above" if 2 * wins + ties > n else "below"
    return TestResult(
        name="equivalence",
        null=f"the circuit scores above the model on a share of pairs within {epsilon:g} of one half",
        statistic="share of pairs on which the circuit scores above the model",
        value=(wins + ties / 2) / n,
        p=p,
        corrected=p,
        n=n,
        verdict=f"not equivalent: the circuit is too often {way} the model"
        if p < alpha
        else "equivalence is not rejected",
        alpha=alpha,
    )


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Return ``tr(K H L H) / (n - 1)^2``, Gaussian kernels, bandwidth the median distance; 0 for a constant side."""
    k, l = _kernel(x), _kernel(y)  # noqa: E741
    return float((_centred(k) * l).sum() / (len(x) - 1) ** 2)


def _kernel(x: np.ndarray) -> np.ndarray:
    distance = np.abs(x[:, None] - x[None, :])
    apart = distance[np.triu_indices(len(x), 1)]
    if apart.max() <= ROUNDING * np.abs(x).max():
        return np.ones_like(distance)  # constant
    width = float(np.median(apart)) or float(apart.mean())  # half the values equal: the median is 0
    return np.exp(-(distance**2) / (2 * width**2))


def _centred(kernel: np.ndarray) -> np.ndarray:
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()


def independence(
    complement: np.ndarray,
    model: np.ndarray,
    *,
    permutations: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
) -> TestResult:
    """Test whether the scores of the model without the circuit say anything about the scores of the model.

    HSIC with one side permuted: ``p = (1 + permutations with HSIC at least as large) / (1 + permutations)``.

    Returns:
        ``value`` is HSIC, 0 or above and without unit; ``p`` is by permutation of pairs.

    Example:
        >>> import workbench as wb
        >>> import numpy as np
        >>> model = np.linspace(1, 2, 30)
        >>> wb.independence(np.zeros(30), model).rejected
        False
    """
    complement, model = _two("independence", complement, model)
    k, l, n = _centred(_kernel(complement)), _kernel(model), len(model)  # noqa: E741
    seen = (k * l).sum()
    rng, above = np.random.default_rng(seed), 0
    for _ in range(permutations):
        order = rng.permutation(n)
        # 1e-12 of the largest possible sum: equal values in another order, or a constant side, are rounding apart
        above += bool((k * l[np.ix_(order, order)]).sum() >= seen - 1e-12 * n * n)
    p = (1 + above) / (1 + permutations)
    return TestResult(
        name="independence",
        null="the scores of the model without the circuit are independent of the model's scores",
        statistic="HSIC",
        value=float(seen / (n - 1) ** 2),
        p=p,
        corrected=p,
        n=n,
        verdict="dependent: what is left without the circuit still follows the model"
        if p < alpha
        else "independence is not rejected",
        alpha=alpha,
        seed=seed,
    )


def _two(name: str, one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    if one.shape != two.shape or one.ndim != 1 or len(one) < 2:
        raise ShapeError(
            f"{name}: scores have shapes {one.shape} and {two.shape}; expected (pair,) twice",
            hint="give one score for each pair, of the same two pairs or more",
        )
    return one, two


def clearly_less(
    here: float | Sequence[float] | np.ndarray, there: float | Sequence[float] | np.ndarray, floor: float
) -> np.ndarray:
    """Say whether a mean squared difference is below another by more than rounding; equal ones are not.

    ``sqrt(here) + floor < sqrt(there) (1 - 1e-5)``
    """
    small, large = (np.sqrt(np.asarray(x, dtype=float)) for x in (here, there))
    return small + floor < large * (1 - ROUNDING)


def edge_minimality(
    changes: Mapping[str, float],
    reference: Sequence[float],
    *,
    floor: float = 0.0,
    share: float = 0.9,
    correction: str = "holm",
    alpha: float = 0.05,
    seed: int = 0,
) -> tuple[TestResult, ...]:
    """Test every edge: does taking it out change the circuit more than taking a random edge does?

    Args:
        changes: Edge -> mean squared change of the score without it.
        reference: The same change for one random new edge in each of many inflated circuits.
        floor: Root mean squared change, in the metric's unit, below which a difference of two is rounding.
        share: The edge must beat at least this share of the reference.

    Returns:
        One test per edge; ``value`` is the change as a squared difference of metrics, ``p`` is corrected for the
        number of tests.

    Example:
        >>> changes, random = {"input->m0": 4.0, "input->a0.h0<q>": 0.1}, [0.01 * i for i in range(100)]
        >>> [(test.name, test.value, test.verdict[:6]) for test in edge_minimality(changes, random)]
        [('minimality of input->m0', 1.0, 'needed'), ('minimality of input->a0.h0<q>', 0.1, 'not ne')]
    """
    if correction not in CORRECTIONS:
        raise OptionError(f"no correction called {correction!r}", hint=f"one of {', '.join(CORRECTIONS)}")
    drawn, n = np.asarray(reference, dtype=float), len(reference)
    # a tie is no win: two changes that are rounding must not be ranked by it
    counts = [int(clearly_less(drawn, change, floor).sum()) for change in changes.values()]
    ps = [at_most(count, n, share) for count in counts]
    corrected = CORRECTIONS[correction](ps)
    return tuple(
        TestResult(
            name=f"minimality of {edge}",
            null=f"the edge matters more than at least {share:.0%} of random edges",
            statistic="share of random edges that it beats",
            value=count / n,
            p=p,
            corrected=float(q),
            n=n,
            verdict="not needed" if q < alpha else "needed: superfluity is not shown",
            correction=f"{correction}, {len(ps)} edges",
            alpha=alpha,
            seed=seed,
        )
        for edge, count, p, q in zip(changes, counts, ps, corrected, strict=True)
    )


def beats_random(
    name: str, count: int, n: int, *, share: float = 0.9, alpha: float = 0.05, seed: int = 0
) -> TestResult:
    """Sufficiency or partial necessity: is a circuit better than at least this share of random ones?

    ``p`` is against "in at least this share". That it *is* above is shown when ``at_least(count, n, share)`` is
    small too, which takes 29 draws or more at 0.9; ``verdict`` says which.
    """
    p, shown = at_most(count, n, share), at_least(count, n, share)
    verdict = "no" if p < alpha else "yes" if shown < alpha else "open: neither is shown by this many draws"
    return TestResult(
        name=name,
        null=f"the circuit is better than a random one of its size with probability at least {share:g}",
        statistic="share of random circuits that it beats",
        value=count / n,
        p=p,
        corrected=p,
        n=n,
        verdict=verdict,
        alpha=alpha,
        seed=seed,
    )
