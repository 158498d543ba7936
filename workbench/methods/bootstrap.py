"""Bootstrap averaging: the mean of a method's scores over draws of pairs, without what changes its sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
from jaxtyping import Bool, Float

from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.core.stats.dependent_pairs import Clusters
from workbench.core.stats.intervals import pair_resamples
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.options.combinations import Bootstrap
from workbench.methods.outcome import graph_of
from workbench.methods.registry import Level
from workbench.methods.tally import MOST_KEPT


def resampled(
    per_pair: Float[np.ndarray, " pair *place"], draws: int, seed: int, clusters: Clusters = ()
) -> Float[np.ndarray, " draw *place"]:
    """Return the mean over each draw of as many pairs (or clusters of them) as there are, with replacement."""
    n = len(per_pair)
    chosen = pair_resamples(n, clusters, draws=draws, seed=seed)
    shares = np.stack([np.bincount(rows, minlength=n) / len(rows) for rows in chosen])
    return (shares @ per_pair.reshape(n, -1).astype(np.float64)).reshape(draws, *per_pair.shape[1:])


def agreed(means: Float[np.ndarray, " draw *place"], options: Bootstrap) -> Bool[np.ndarray, " *place"]:
    """Say where the interval of the draws lies on one side of 0."""
    spread = means.std(0, ddof=1)
    if options.spread == "se":
        spread = spread / np.sqrt(len(means))
    return np.abs(means.mean(0)) > options.z * spread


def _check_pairs(runs: PairedRuns, level: Level, *, per_position: bool) -> None:
    """Refuse what cannot be drawn again, before anything is scored."""
    if runs.n_pairs < 2:
        raise OptionError("one pair cannot be drawn again; at least 2 are needed", hint="-n 64")
    graph = graph_of(runs, level)
    width = int(graph.edge_mask.size) if level == "edge" else len(graph.sources)
    width *= len(runs.position_labels) if per_position else 1
    if level != "neuron" and runs.n_pairs * width > MOST_KEPT:
        raise OptionError(
            f"{width:,} scores of each of {runs.n_pairs:,} pairs are more than the {MOST_KEPT:,} numbers that are kept",
            hint=f"-n {max(2, MOST_KEPT // width)}",
        )


def bootstrap(
    runs: PairedRuns,
    options: Bootstrap,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Another method's scores averaged over draws of pairs; 0 where the draws do not agree on the sign.

    A score stands where ``mean +- z spread`` over the draws lies on one side of 0. The method itself runs once: the
    mean over a draw is that of the scores of its pairs. Pairs that belong together are drawn together.

    Returns:
        Scores in the other method's unit, with its sign.

    Raises:
        OptionError: for a method whose scores are no means over pairs, or too many to be kept.

    Source:
        arXiv:2510.25786.
    """
    _check_pairs(runs, level, per_position=per_position)
    found = score(runs, options.of, level=level, per_position=per_position, progress=progress)
    if found.per_pair is None:
        raise OptionError(
            f"the scores of {options.of} are not means over pairs, so pairs cannot be drawn again",
            hint="--option of=eap-ig",
        )
    means = resampled(found.per_pair, options.draws, options.seed, runs.pairs.pairs.clusters)
    kept = agreed(means, options)
    values = np.where(found.exists, np.where(kept, means.mean(0), 0.0), np.nan)
    return replace(
        found,
        values=values,
        per_pair=None,
        method="bootstrap",
        source="arXiv:2510.25786",
        options={
            **asdict(options),
            "options of it": dict(found.options),
            "agreed": int(kept[found.candidates].sum()),
        },
    )
