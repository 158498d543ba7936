"""A space of attention patterns: resized, put on their main axes, and sorted into families with exemplars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from workbench.core.errors import OptionError
from workbench.core.stats.association import adjusted_rand
from workbench.heads.grid_maps import Size, between_patches
from workbench.heads.hops import hop_distance

PLANTED = ("own patch", "neighbours", "own row", "first patch")
"""Families of patterns that are planted to see whether they are found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatternSpace:
    """Patterns as points.

    Attributes:
        points: Coordinates on the main axes; the first axis explains most.
        explained: Share of the variance that the axes explain together, 0 to 1.
        families: The family of each pattern, numbered from the largest.
        exemplars: For each family its patterns, the one nearest to its middle first.
    """

    points: Float[np.ndarray, "pattern axis"]
    explained: float
    families: Int[np.ndarray, " pattern"]
    exemplars: tuple[tuple[int, ...], ...]


def pattern_space(
    patterns: Float[np.ndarray, "pattern query key"],
    *,
    families: int = 4,
    axes: int = 16,
    size: int = 18,
    seed: int = 0,
) -> PatternSpace:
    """Sort patterns into families by how they look: resize, project on the main axes, cluster (k-means).

    Args:
        size: Patterns are resized to ``size x size``, by the mean of what each part covers; smaller ones stay.

    Raises:
        OptionError: if there are fewer patterns than families.

    Source:
        Li et al. 2023, How Does Attention Work in Vision Transformers? (there an autoencoder; here main axes).
    """
    if not 1 <= families <= len(patterns):
        raise OptionError(
            f"{len(patterns)} patterns cannot be sorted into {families} families",
            hint=f"families={max(min(families, len(patterns)), 1)}, and at least one pattern",
        )
    flat = resized(patterns, min(size, patterns.shape[-1])).reshape(len(patterns), -1)
    centred = flat - flat.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points, total = (left * values)[:, :axes], float((values**2).sum())
    groups, middles = k_means(points, families, seed=seed)
    order = np.argsort([-np.sum(groups == k) for k in range(families)], kind="stable")
    away = ((points - middles[groups]) ** 2).sum(-1)
    near = [np.flatnonzero(groups == k) for k in order]
    return PatternSpace(
        points=points,
        explained=float((values[:axes] ** 2).sum()) / total if total > 0 else 1.0,
        families=np.argsort(order)[groups],
        exemplars=tuple(tuple(own[np.argsort(away[own], kind="stable")].tolist()) for own in near),
    )


def few_patterns(
    seen: Mapping[str, Float[np.ndarray, "picture query key"]], *, n: int, first: int
) -> dict[str, Float[np.ndarray, "n patch patch"]]:
    """Return the patterns of every head between patches, on the first ``n`` pictures.

    Args:
        first: The position of the first patch.
    """
    return {head: between_patches(A[:n], first=first) for head, A in seen.items()}


class FoundFamilies(NamedTuple):
    """The families in which planted patterns were found; numbers of families mean nothing across the two.

    Attributes:
        found: The family that each pattern was sorted into.
        planted: Its own.
    """

    found: Int[np.ndarray, " pattern"]
    planted: Int[np.ndarray, " pattern"]

    @property
    def agreement(self) -> float:
        """The adjusted Rand index of the two: 1 where all is found again, about 0 by chance."""
        return adjusted_rand(self.found.tolist(), self.planted.tolist())


def find_planted(grid: Size, *, each: int, noise: float, seed: int) -> FoundFamilies:
    """Plant patterns of known families (`planted_patterns`) and sort them.

    Example:
        >>> find_planted((4, 4), each=5, noise=0.1, seed=0).agreement
        1.0
    """
    made, planted = planted_patterns(grid, each=each, noise=noise, seed=seed)
    return FoundFamilies(pattern_space(made, families=len(PLANTED), seed=seed).families, planted)


def head_families(
    patterns: Mapping[str, Float[np.ndarray, "item query key"]],
    loss: Mapping[str, float],
    *,
    families: int,
    seed: int,
) -> tuple[PatternSpace, list[dict[str, Any]]]:
    """Sort the patterns of all heads together (`pattern_space`), and say which heads each family has.

    Args:
        loss: What is lost without each head.

    Returns:
        The space of all patterns, one head after the other, and its `family_rows`.
    """
    space = pattern_space(np.concatenate(list(patterns.values())), families=families, seed=seed)
    return space, family_rows(patterns, loss, space)


def family_rows(
    patterns: Mapping[str, Float[np.ndarray, "item query key"]],
    loss: Mapping[str, float],
    space: PatternSpace,
) -> list[dict[str, Any]]:
    """Say of every family which heads it has and what is lost without them.

    Args:
        patterns: By head; ``space`` is of all of them, one head after the other.
        loss: What is lost without each head.

    Returns:
        One row per family, the largest first.
    """
    of = [head for head, own in patterns.items() for _ in own]
    return [
        {
            "family": i,
            "patterns": len(members),
            "heads": ", ".join(head for head in patterns if head in {of[k] for k in members}),
            "mean loss of their heads": float(np.mean([loss[of[k]] for k in members])),
            "nearest to its middle": of[members[0]],
        }
        for i, members in enumerate(space.exemplars)
        if members
    ]


def resized(patterns: Float[np.ndarray, "*batch n n"], size: int) -> Float[np.ndarray, "*batch size size"]:
    """Resize square patterns: each new cell is the mean of the area that it covers.

    Example:
        >>> resized(np.arange(16.0).reshape(4, 4), 2).tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    n = patterns.shape[-1]
    edges = np.arange(size + 1) * n / size
    cells = np.arange(n)
    covers = np.clip(np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells), 0, None)
    covers = covers / covers.sum(1, keepdims=True)  # (size, n): rows sum to 1
    return covers @ patterns @ covers.T


def k_means(
    points: Float[np.ndarray, "item axis"], k: int, *, seed: int = 0, starts: int = 10, rounds: int = 100
) -> tuple[Int[np.ndarray, " item"], Float[np.ndarray, "k axis"]]:
    """Sort points into ``k`` groups around their means; of several starts the one with the smallest distances.

    Returns:
        The group of each point, and the middles.

    Source:
        Lloyd 1982, IEEE Transactions on Information Theory 28; starts as Arthur and Vassilvitskii 2007, k-means++.
    """
    rng, best = np.random.default_rng(seed), None
    for _ in range(starts):
        middles = _spread(points, k, rng)
        for _ in range(rounds):
            apart = ((points[:, None] - middles) ** 2).sum(-1)
            groups = apart.argmin(1)
            moved = np.stack(
                [points[groups == j].mean(0) if (groups == j).any() else middles[j] for j in range(k)]
            )
            if np.array_equal(moved, middles):
                break
            middles = moved
        cost = float(apart.min(1).sum())
        if best is None or cost < best[0]:
            best = cost, groups, middles
    assert best is not None
    return best[1], best[2]


def _spread(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Starting points far from each other: each drawn by its squared distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < k:
        apart = ((points[:, None] - points[chosen]) ** 2).sum(-1).min(1)
        chances = apart / apart.sum() if apart.sum() > 0 else np.full(len(points), 1 / len(points))
        chosen.append(int(rng.choice(len(points), p=chances)))
    return points[chosen]


def planted_patterns(
    grid: Size, *, each: int, noise: float, seed: int = 0
) -> tuple[Float[np.ndarray, "pattern patch patch"], Int[np.ndarray, " pattern"]]:
    """Draw patterns of four known families, each mixed with random attention.

    Args:
        each: Patterns of each family of `PLANTED`.
        noise: Share of random attention in every row, 0 to 1.

    Returns:
        The patterns, whose rows sum to 1, and the family of each.
    """
    rng, n = np.random.default_rng(seed), grid[0] * grid[1]
    row, apart = np.arange(n) // grid[1], hop_distance(grid)
    first = np.broadcast_to(np.arange(n) == 0, (n, n))
    plain = np.stack([apart == 0, apart == 1, row[:, None] == row, first]).astype(float)
    plain /= plain.sum(-1, keepdims=True)  # (family, patch, patch)
    families = np.repeat(np.arange(len(PLANTED)), each)
    random = rng.dirichlet(np.ones(n), size=(len(families), n))
    return (1 - noise) * plain[families] + noise * random, families
