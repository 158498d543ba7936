"""Retrieval scores beside each other: of two models head by head, and which heads a random choice may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.claims import Quantity, Rows
from workbench.core.errors import OptionError
from workbench.core.stats.agreement import pearson
from workbench.core.stats.intervals import SHARE, resampled_interval, resamples
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import p_above, sign_test_p
from workbench.heads.retrieval import THRESHOLD, RetrievalScores


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
) -> Quantity:
    """Return Pearson's r of two models' scores head by head, with a permutation test of heads within their layer.

    Within the layer: which layer retrieves is no news about heads. Its control is r of the layers alone.

    Args:
        there: The other model's scores, or why it has none.
    """
    if why := there if isinstance(there, str) else _no_counterparts(here, there):
        return Quantity(None, why=why)
    assert not isinstance(there, str)
    a, b = here.score, there.score
    r = pearson(a.ravel(), b.ravel())
    if not np.isfinite(r):
        return Quantity(
            None,
            why="one of the models gives every head the same score, with which nothing can be correlated",
        )
    rng = np.random.default_rng([seed, 3])
    null = np.array([pearson(a.ravel(), rng.permuted(b, axis=1).ravel()) for _ in range(draws)])
    around = _interval(here, there, r, seed)
    return Quantity(r, control=float(null.mean()), p=p_above(r, null), around=around)


def _no_counterparts(here: RetrievalScores, there: RetrievalScores) -> str:
    if here.score.shape != there.score.shape:
        sides = (
            f"{layers} layers of {heads} heads" for layers, heads in (here.score.shape, there.score.shape)
        )
        return f"{' against '.join(sides)}: heads have no counterparts"
    return "" if here.counted.any() and there.counted.any() else "one of the models answers no needle"


def _interval(here: RetrievalScores, there: RetrievalScores, r: float, seed: int) -> tuple[float, float]:
    """95 % interval of r over resamples of the prompts of each model; noise of prompts only lowers it."""
    sides = [s.per_sample[s.counted] for s in (here, there)]
    if min(map(len, sides)) < 2:  # one prompt does not show how others differ
        return float("nan"), float("nan")
    drawn_ = [resamples(len(side), draws=500, seed=seed + i) for i, side in enumerate(sides)]
    found = [
        pearson(*(side[index[k]].mean(0).ravel() for side, index in zip(sides, drawn_, strict=True)))
        for k in range(500)
    ]
    return resampled_interval(np.array(found), r, mirrored=True, within=(-1.0, 1.0))[:2]


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


def fewest_heads(models: Iterable[RetrievalScores | str], answered: float) -> Quantity:
    """Return the fewest retrieval heads of the models that answer this share of the needles, and how many they are."""
    known = [one for one in models if not isinstance(one, str) and one.counted.mean() >= answered]
    return Quantity(
        min((len(one.heads()) for one in known), default=None), len(known), why="no model answers"
    )


def copying(scores: RetrievalScores, *, seed: int) -> dict[str, Quantity]:
    """Return what share of the heads copy at all, never, or most of the needle; and how many copy how often."""
    score, n, at_all = scores.score, scores.score.size, scores.score >= THRESHOLD
    chance, active = np.mean([1 / len(s.prompt) for s in scores.samples]), scores.frequency[at_all]
    control, around = (
        f"{chance:.3f} (a head that looks anywhere)",
        share_interval(scores, THRESHOLD, seed=seed),
    )
    return {
        "share of heads at the threshold": Quantity(at_all.mean(), n, control, around=around),
        "share of heads that never copy": Quantity((score == 0).mean(), n),
        "share of heads with a score above one half": Quantity((score > 0.5).mean(), n),
        "heads that copy in every sample": Quantity(int((active == 1).sum()), int(scores.counted.sum())),
        "heads that copy in less than 95 % of samples": Quantity(int((active < 0.95).sum())),
    }


def share_interval(scores: RetrievalScores, threshold: float, *, seed: int) -> tuple[float, float]:
    """Return 95 % interval, over resamples of the prompts, of the share of heads that reach the threshold."""
    kept = scores.per_sample[scores.counted]
    if len(kept) < 2:
        return float("nan"), float("nan")
    found = [
        (kept[index].mean(0) >= threshold).mean() for index in resamples(len(kept), draws=1000, seed=seed)
    ]
    share = float((kept.mean(0) >= threshold).mean())
    return resampled_interval(np.array(found), share, mirrored=True, within=SHARE)[:2]


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


def least_loss(rows: Rows) -> Quantity:
    """Return the least loss beyond matched heads of all lengths, with the largest p, corrected for them (Holm)."""
    p = holm([row["p"] for row in rows]).max()
    return Quantity(
        min(row["lost beyond matched"] for row in rows), sum(row["n"] for row in rows), p=float(p)
    )
