"""Scores of some of the pairs, where a method's scores are plain means over pairs and it need not run again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.circuits.scores import Scores
from workbench.circuits.verdicts.decisions import LEAST_GROUP
from workbench.engine.paired_runs import PairedRuns


def templates_of(scores: Scores, runs: PairedRuns) -> list[Scores]:
    """Return the scores of the pairs of each template that has enough of them; none where they are no plain means.

    Returns:
        One ``Scores`` per template, in the order in which templates come.
    """
    if not _is_mean(scores):
        return []
    groups = np.array([pair.group for pair in runs.pairs.pairs])
    names = [g for g in dict.fromkeys(groups.tolist()) if (groups == g).sum() >= LEAST_GROUP]
    return [_over_pairs(scores, groups == name) for name in names]


def halves_of(scores: Scores) -> tuple[Scores, Scores] | None:
    """Return the scores of every other pair and of the rest, where scores are plain means over pairs; else None."""
    if not _is_mean(scores):
        return None
    return _over_pairs(scores, slice(0, None, 2)), _over_pairs(scores, slice(1, None, 2))


def _is_mean(scores: Scores) -> bool:
    """Say whether scores are plain means over pairs."""
    by_pair = scores.per_pair
    if by_pair is None or len(by_pair) < 2:
        return False
    # 1e-4: a mean of float32 numbers in another order
    off = np.abs(np.where(scores.exists, by_pair.mean(0) - scores.values, 0.0)).max()
    return bool(off <= 1e-4 * np.abs(scores.values[scores.exists]).max())


def _over_pairs(scores: Scores, pairs: slice | np.ndarray) -> Scores:
    """Scores of some of the pairs."""
    assert scores.per_pair is not None  # they are plain means over pairs
    values = np.where(scores.exists, scores.per_pair[pairs].mean(0), np.nan)
    return replace(scores, values=values, per_pair=None)
