"""Retrieval scores beside each other: of two models head by head, and which heads a random choice may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.core.stats.agreement import pearson
from workbench.core.stats.intervals import resamples
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.core.stats.permutation import p_above, sign_test_p
from workbench.heads.retrieval import RetrievalScores


def rest(scores: RetrievalScores, top: Sequence[str]) -> list[str]:
    """Return heads to draw random sets from: all but ``top`` and as many again from the head of the ranking.

    The paper masks up to 50 heads and draws from those after the first 100. In a layer with too few of these, all but
    ``top`` are drawn from.
    """
    ranked = [name for name, _ in scores.ranked()]
    later = [head for head in ranked[2 * len(top) :] if head not in top]
    there, wanted = (Counter(layer_of(head) for head in heads) for heads in (later, top))
    short = {layer for layer in wanted if there[layer] < wanted[layer]}
    return [h for h in ranked if h in later or (h not in top and layer_of(h) in short)]


def correlation(
    here: RetrievalScores, there: RetrievalScores | str, *, seed: int, draws: int = 2000
) -> dict[str, Any] | str:
    """Pearson's r of two models' scores head by head, with a permutation test of heads within their layer.

    Within the layer: which layer retrieves is no news about heads. Or why there is none.
    """
    if isinstance(there, str):
        return there
    if here.score.shape != there.score.shape:
        return (
            f"{here.score.shape[0]} layers of {here.score.shape[1]} heads against {there.score.shape[0]} of "
            f"{there.score.shape[1]}: heads have no counterparts"
        )
    if not (here.counted.any() and there.counted.any()):
        return "one of the models answers no needle"
    a, b = here.score, there.score
    r = pearson(a.ravel(), b.ravel())
    if not np.isfinite(r):
        return "one of the models gives every head the same score, with which nothing can be correlated"
    rng = np.random.default_rng([seed, 3])
    null = np.array([pearson(a.ravel(), rng.permuted(b, axis=1).ravel()) for _ in range(draws)])
    low, high = _interval(here, there, seed)
    return {
        "r": r,
        "low": low,
        "high": high,
        "p": p_above(r, null),
        "r of layers alone": float(null.mean()),
    }


def _interval(here: RetrievalScores, there: RetrievalScores, seed: int) -> tuple[float, float]:
    """95 % interval of r over resamples of the prompts of each model."""
    sides = [s.per_sample[s.counted] for s in (here, there)]
    if min(map(len, sides)) < 2:  # one prompt does not show how others differ
        return float("nan"), float("nan")
    drawn_ = [resamples(len(side), draws=500, seed=seed + i) for i, side in enumerate(sides)]
    found = [
        pearson(*(side[index[k]].mean(0).ravel() for side, index in zip(sides, drawn_, strict=True)))
        for k in range(500)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def model_row(name: str, scores: RetrievalScores | str) -> dict[str, Any]:
    """Say what is told of one model in a table of several, or why there is nothing to tell."""
    if isinstance(scores, str):
        return {"model": name, "note": scores}
    return {
        "model": name,
        "answers": float(scores.counted.mean()),
        "heads": scores.score.size,
        "at the threshold": len(scores.heads()),
        "which": ", ".join(scores.heads()[:6]),
        "highest": float(np.nan_to_num(scores.score).max()),
    }


def share_interval(scores: RetrievalScores, threshold: float, *, seed: int) -> tuple[float, float]:
    """Return 95 % interval, over resamples of the prompts, of the share of heads that reach the threshold."""
    kept = scores.per_sample[scores.counted]
    if len(kept) < 2:
        return float("nan"), float("nan")
    found = [
        (kept[index].mean(0) >= threshold).mean() for index in resamples(len(kept), draws=1000, seed=seed)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def matched_to(
    scores: RetrievalScores, top: Sequence[str], *, draws: int, seed: int
) -> list[tuple[str, ...]]:
    """Draw random sets with as many heads in each layer, none among twice as many top heads where a layer has others.

    Raises:
        OptionError: if a layer has too few other heads.
    """
    return matched_heads(sorted(top, key=layer_of), rest(scores, top), draws=draws, seed=[seed, len(top)])


def masked_choice(scores: RetrievalScores, share: float, kind: str = "retrieval") -> tuple[str, ...]:
    """Choose heads to mask: a share of all, at least one.

    Args:
        kind: ``retrieval`` for the highest scores; ``lowest``, or ``random`` heads of their layers, for a control.

    Raises:
        OptionError: for another kind, or if a layer has too few other heads.
    """
    if kind not in ("retrieval", "lowest", "random"):
        raise OptionError(
            f"{kind!r} heads are not known here; expected retrieval, lowest or random", hint="use 'retrieval'"
        )
    top = scores.top(share, last=kind == "lowest")
    return matched_to(scores, top, draws=1, seed=99)[0] if kind == "random" else top


def lost_by_context(contexts: Sequence[int], recall: Mapping[str, np.ndarray]) -> Rows:
    """Say for each length of text what masking top heads takes beyond what masking matched ones does.

    Args:
        contexts: Of each sample.
        recall: By name, one value per sample: as it is, with the top heads masked, with matched heads masked.

    Returns:
        One row per length, the shortest first, with the p of a sign test over its samples.
    """
    _, masked, matched = recall.values()
    extra, rows = matched - masked, []
    for context in sorted(set(contexts)):
        at = np.array(contexts) == context
        means = {name: float(values[at].mean()) for name, values in recall.items()}
        row = {"context": context, **means, "lost beyond matched": float(extra[at].mean())}
        rows.append({**row, "p": sign_test_p(extra[at]), "n": int(at.sum())})
    return rows
