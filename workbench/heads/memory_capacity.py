"""How many pairs a linear memory holds: on random pairs, with the worst values, over copies and over layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from workbench.core.errors import OptionError
from workbench.heads.crosstalk import correct_pairs, fidelity, predicted_fidelity, write_pairs
from workbench.view.pictures import Curves

SHARES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)  # pairs per dimension that are tried for a capacity
Pairs = tuple[Float[Tensor, "draw pair d"], Float[Tensor, "draw pair d"]]


def random_pairs(pairs: int, d: int, *, draws: int = 1, seed: int | Sequence[int] = 0) -> Pairs:
    """Draw keys and values in random directions, all of length 1, in float64.

    Raises:
        OptionError: for fewer than one pair, dimension or draw.
    """
    if min(pairs, d, draws) < 1:
        raise OptionError(
            f"draws is {draws}, pairs {pairs}, d {d}; expected at least 1 of each",
            hint="random_pairs(16, 64, draws=1)",
        )
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(rng.standard_normal((2, draws, pairs, d)))
    keys, values = normalize(drawn, dim=-1)
    return keys, values


def worst_error(keys: Float[Tensor, "*batch pair d"]) -> Float[Tensor, "*batch pair"]:
    """Return the largest error that values of length 1 can make for each key: the sum of overlaps with other keys.

    Returns:
        Length of what is added to the right value, 0 for keys at right angles. Values that all point one way, each
        with the sign of its key's overlap, make it.
    """
    overlaps = (keys @ keys.mT).abs()
    return overlaps.sum(-1) - overlaps.diagonal(dim1=-2, dim2=-1)


def capacity(fidelities: Sequence[float], pairs: Sequence[int], least: float) -> float:
    """Read off how many pairs can be held with a fidelity of at least ``least``, between the numbers that were tried.

    Returns:
        The number of pairs at which the fidelity, falling, reaches ``least``; NaN where it does so nowhere between
        the first and the last.

    Example:
        >>> capacity([0.9, 0.7, 0.5], [10, 20, 40], 0.6)
        30.0
    """
    found = np.asarray(fidelities, dtype=float)
    if not found[0] >= least > found[-1]:
        return float("nan")
    i = int(np.argmax(found < least))  # the first below it
    part = (found[i - 1] - least) / (found[i - 1] - found[i])
    return float(pairs[i - 1] + part * (pairs[i] - pairs[i - 1]))


def capacity_of_worst(keys: Float[Tensor, "pair d"], most: float) -> int:
    """Count how many of the first keys can be held so that no values whatever make an error above ``most``.

    Returns:
        At least 1; all of them where none is disturbed so much.

    Example:
        >>> capacity_of_worst(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), 1.0)
        2
    """
    overlaps = (keys @ keys.mT).abs().fill_diagonal_(0)
    for n in range(2, len(keys) + 1):
        if float(overlaps[:n, :n].sum(-1).max()) > most:
            return n - 1
    return len(keys)


@dataclass(frozen=True, kw_only=True, eq=False)
class FilledMemory:
    """What memories of ``pairs`` random pairs in ``d`` dimensions retrieve.

    Attributes:
        cosines: With the right value, of every draw and pair.
        nearest: Share of retrievals to which the right value is nearest of all values, 0 to 1.
    """

    d: int
    pairs: int
    cosines: Float[Tensor, "draw pair"]
    nearest: float

    @property
    def predicted(self) -> float:
        """The cosine by formula."""
        return float(predicted_fidelity(self.pairs, float(self.d)))

    def row(self) -> dict[str, float]:
        """Return it as a row of a table."""
        mean, least = float(self.cosines.mean()), float(self.cosines.min())
        return {"d": self.d, "pairs": self.pairs, "cosine": mean, "by formula": self.predicted,
                "least": least, "nearest value is right": self.nearest}  # fmt: skip


def fill(pairs: int, d: int, *, draws: int = 1, seed: int | Sequence[int] = 0) -> FilledMemory:
    """Fill memories with random pairs and ask for every key.

    Raises:
        OptionError: for fewer than one pair, dimension or draw.
    """
    keys, values = random_pairs(pairs, d, draws=draws, seed=seed)
    read = keys @ write_pairs(keys, values)
    right = ((read @ values.mT).argmax(-1) == torch.arange(pairs)).double().mean()
    return FilledMemory(d=d, pairs=pairs, cosines=fidelity(read, values), nearest=float(right))


def fidelity_curves(filled: Sequence[FilledMemory]) -> Curves:
    """Draw the cosine of what is retrieved over the pairs per dimension, a line for each dimension."""
    rows = [one.row() for one in filled]
    lines = {
        f"d = {d}": [(row["pairs"] / d, row["cosine"]) for row in rows if row["d"] == d]
        for d in dict.fromkeys(one.d for one in filled)
    }
    return Curves.of(
        lines, log_x=True, x_label="pairs per dimension", y_label="cosine with the right value",
        title="Fidelity by pairs per dimension",
    )  # fmt: skip


def by_rule(
    pairs: int, d: int, *, sweeps: int, draws: int = 1, seed: int | Sequence[int] = 0
) -> tuple[Float[Tensor, "draw pair"], Float[Tensor, "draw pair"]]:
    """Return the cosines of memories that add pairs up, and of those that correct their errors, of the same pairs.

    Args:
        sweeps: Over all pairs, of the rule that corrects.
    """
    keys, values = random_pairs(pairs, d, draws=draws, seed=seed)
    added, corrected = write_pairs(keys, values), correct_pairs(keys, values, sweeps=sweeps)
    return fidelity(keys @ added, values), fidelity(keys @ corrected, values)


def capacity_exponents(
    dimensions: Sequence[int], *, least: float, most: float, draws: int, seed: int
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    """Fit how the number of pairs that random keys can hold grows with the dimension: 1 is linearly.

    Args:
        least: The mean cosine at which a memory is full on average.
        most: The error that no values whatever may exceed, for the worst case.

    Returns:
        The exponent on average and at worst, one for each draw.
    """
    found = []
    for draw in range(draws):
        held, safe = [], []
        for d in dimensions:
            tried = [max(2, round(share * d)) for share in SHARES]
            means = [float(fill(n, d, seed=[seed, draw, d, n]).cosines.mean()) for n in tried]
            held.append(capacity(means, tried, least))
            [many], _ = random_pairs(4 * int(d**0.5) + 8, d, seed=[seed, draw, d])
            safe.append(capacity_of_worst(many, most))
        found.append([np.polyfit(np.log(dimensions), np.log(counts), 1)[0] for counts in (held, safe)])
    average, worst = np.array(found).T
    return average, worst


def by_copies(pairs: int, d: int, copies: int, *, own_keys: bool = True, draws: int = 1, seed: int = 0) -> Float[
    Tensor, "draw pair"
]:  # fmt: skip
    """Add up what several memories of the same values give: the cosine with the right value.

    Args:
        own_keys: Every memory has keys of its own; False gives all the same, which averages nothing.
    """
    keys, values = random_pairs(pairs, d, draws=draws, seed=[seed, 0])
    total = torch.zeros_like(values)
    for i in range(copies):
        own = random_pairs(pairs, d, draws=draws, seed=[seed, i])[0] if own_keys else keys
        total = total + own @ write_pairs(own, values)
    return fidelity(total, values)


def by_layers(
    pairs: int, d: int, layers: int, *, draws: int = 1, seed: int = 0
) -> list[Float[Tensor, "draw pair"]]:
    """Ask a chain of memories: what one retrieves is the key of the next, as it was retrieved.

    Returns:
        For every layer the cosine with the value that exact memories would give.
    """
    chain = [random_pairs(pairs, d, draws=draws, seed=[seed, layer])[0] for layer in range(layers + 1)]
    read, found = chain[0], []
    for keys, values in pairwise(chain):
        read = normalize(read @ write_pairs(keys, values), dim=-1)
        found.append(fidelity(read, values))
    return found


def layers_fidelity(pairs: int, d: int, layers: int) -> float:
    """Return the cosine after so many layers by formula: that of one layer to the power of ``layers``.

    What is wrong in a retrieved key points at the other keys of the next layer, which answer it in full; so variances
    multiply: ``(1 + (pairs - 1) / d)^(-layers / 2)``.

    Example:
        >>> round(layers_fidelity(65, 64, 1), 4), layers_fidelity(65, 64, 2)
        (0.7071, 0.5)
    """
    return (1 + (pairs - 1) / d) ** (-layers / 2)
