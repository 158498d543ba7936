"""Neurons that matter on the same prompts: clusters by co-occurrence of attribution scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.core.show import Told
from workbench.core.stats.linkage import average_linkage

DRAWS = 20  # orders of the prompts for the line of chance
LEAST = 8  # a neuron is compared from this part of the pairs on
MOST = 300  # neurons that are compared with each other


@dataclass(frozen=True, kw_only=True)
class NeuronCluster:
    """Neurons that are among the strongest on the same prompts.

    Attributes:
        neurons: Addresses, ``m2.n17``.
        pairs: Numbers of the pairs on which half of them or more are among the strongest.
        alike: Mean Jaccard of the sets of pairs of every two neurons.
        score: Mean over pairs of the sum of their scores.
    """

    neurons: tuple[str, ...]
    pairs: tuple[int, ...]
    alike: float
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronClusters(Told):
    """Clusters of two neurons or more, the largest first.

    Attributes:
        compared: Neurons that are among the strongest on an eighth of the pairs, on three or more, and not on all.
        always: Those that are among the strongest on every pair: they co-occur with everything, and say nothing.
        chance: Jaccard that the most alike two neurons reach when the prompts of each are dealt anew: clusters are
            joined above it.
        n_pairs, top: Pairs, and how many neurons of each are its strongest.
    """

    method: str
    unit: str
    clusters: tuple[NeuronCluster, ...]
    compared: int
    always: tuple[str, ...]
    chance: float
    n_pairs: int
    top: int

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each cluster."""
        return [
            {
                "neurons": len(cluster.neurons),
                "for example": ", ".join(cluster.neurons[:4]),
                "pairs": len(cluster.pairs),
                "Jaccard": cluster.alike,
                f"score ({self.unit})": cluster.score,
            }
            for cluster in self.clusters
        ]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        told = (
            f"{self.method}: {self.compared} neurons are among the {self.top} strongest of some of {self.n_pairs} "
            f"pairs, {len(self.always)} of all; clusters above Jaccard {self.chance:.2f}, the most of dealt prompts"
        )
        return [told, self.rows()]

    def __repr__(self) -> str:
        return f"<NeuronClusters {self.method}: {len(self.clusters)} of {self.compared} neurons>"


def neuron_clusters(scores: Scores, *, top: int = 20, seed: int = 0) -> NeuronClusters:
    """Group neurons by the prompts on which they are among the strongest.

    Two neurons are as alike as the Jaccard of their sets of pairs. Groups are joined by average linkage while they are
    more alike than any two neurons whose pairs are dealt anew, each as many as it has. Neurons of fewer than an eighth
    of the pairs, or of fewer than three, are left out: chance makes those alike too.

    Args:
        scores: Of neurons, with values of single pairs: ``wb.score(runs, "relp", level="neuron")``.
        top: How many neurons of each pair are its strongest, by size of score.
        seed: Of the dealt prompts.

    Returns:
        Clusters; scores in the unit of the given ones, positive supports the behavior.

    Raises:
        OptionError: for scores without values of single pairs or of something else than neurons, or of fewer than 4
            pairs.

    Source:
        Clusters of neurons by co-occurrence are ours; the scores are those of arXiv:2508.21258.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=8)
        >>> found = wb.neuron_clusters(wb.score(runs, "relp", level="neuron"), top=5)
        >>> found.n_pairs, found.top
        (8, 5)
    """
    each = _of_pairs(scores, top)
    n, width = len(each), scores.values.shape[-1]
    flat = np.nan_to_num(each.reshape(n, -1))
    active = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(active, np.argsort(-np.abs(flat), axis=1, kind="stable")[:, :top], True, axis=1)
    active &= flat != 0
    times = active.sum(0)
    always, some = np.flatnonzero(times == n), np.flatnonzero((times >= max(3, n / LEAST)) & (times < n))
    some = some[np.argsort(-times[some], kind="stable")[:MOST]]
    alike = jaccards(active[:, some])
    chance = _by_chance(active[:, some], np.random.default_rng(seed))
    groups = average_linkage(alike, np.nextafter(chance, 2.0)) if len(some) else []

    def named(items: Sequence[int]) -> tuple[str, ...]:
        return tuple(f"m{i // width}.n{i % width}" for i in items)

    return NeuronClusters(
        method=scores.method,
        unit=scores.unit,
        clusters=tuple(
            NeuronCluster(
                neurons=named(some[group].tolist()),
                pairs=tuple(np.flatnonzero(2 * active[:, some[group]].sum(1) >= len(group)).tolist()),
                alike=float(alike[np.ix_(group, group)][np.triu_indices(len(group), 1)].mean()),
                score=float(flat[:, some[group]].sum(1).mean()),
            )
            for group in groups
            if len(group) > 1
        ),
        compared=len(some),
        always=named(always.tolist()),
        chance=chance,
        n_pairs=n,
        top=top,
    )


def _of_pairs(scores: Scores, top: int) -> np.ndarray:
    """Scores of single pairs.

    Raises:
        OptionError: for scores that have none, or of something else than neurons.
    """
    if scores.level != "neuron" or scores.positions:
        raise OptionError(
            f"clusters are of neurons at all positions; these are scores of {scores.level}s",
            hint='level="neuron"',
        )
    if scores.per_pair is None:
        raise OptionError(
            f"{scores.method} keeps no scores of single pairs here",
            hint='wb.score(runs, "relp", level="neuron")',
        )
    if len(scores.per_pair) < 4 or top < 1:
        raise OptionError(
            f"{len(scores.per_pair)} pairs and the {top} strongest of each say nothing of clusters",
            hint="-n 32, top=20",
        )
    return scores.per_pair


def jaccards(active: Bool[np.ndarray, "pair neuron"]) -> Float[np.ndarray, "neuron neuron"]:
    """Return the Jaccard of the sets of pairs of every two neurons; 0 for two empty ones.

    Example:
        >>> jaccards(np.array([[True, True], [True, False]]))
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    sets = active.astype(float)
    both = sets.T @ sets
    either = sets.sum(0)[:, None] + sets.sum(0)[None] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _by_chance(active: Bool[np.ndarray, "pair neuron"], rng: np.random.Generator) -> float:
    """The mean over draws of the highest Jaccard of two neurons whose pairs are dealt anew."""
    if active.shape[1] < 2:
        return 1.0
    highest = []
    for _ in range(DRAWS):
        found = jaccards(rng.permuted(active, axis=0))
        np.fill_diagonal(found, 0.0)
        highest.append(float(found.max()))
    return float(np.mean(highest))
