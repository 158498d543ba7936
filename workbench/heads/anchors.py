"""Preplan and anchor tokens: from the two curves of a response to sets of tokens, coupling, chance and credit.

Curves are one value per response token, NaN where there is none. Nothing here needs a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench.core.errors import OptionError, ShapeError
from workbench.core.stats.permutation import p_above

SHARE = 0.4
LOOK_BACK = 3

Curve = Float[np.ndarray, "token"]
Marks = Bool[np.ndarray, "token"]


def drops(waad: Curve) -> Curve:
    """Return ``|WAAD_t - WAAD_{t+1}|``; NaN at the last token."""
    waad = np.asarray(waad, dtype=float)
    return np.append(np.abs(np.diff(waad)), np.nan)


def top_share(values: Curve, share: float = SHARE, *, eligible: Marks | None = None) -> Marks:
    """Return the ``round(share * n)`` largest of the n eligible finite values, at least one; of equal ones the
    earlier.

    Raises:
        OptionError: unless ``0 < share <= 1``.
    """
    if not 0 < share <= 1:
        raise OptionError(f"share is {share}; expected a number above 0 and at most 1", hint="share=0.4")
    values = np.asarray(values, dtype=float)
    allowed = np.isfinite(values) & (True if eligible is None else eligible)
    where = np.flatnonzero(allowed)
    marks = np.zeros(len(values), dtype=bool)
    if len(where):
        n = max(1, round(share * len(where)))
        marks[where[np.argsort(-values[where], kind="stable")[:n]]] = True
    return marks


def peaks(values: Curve, share: float = SHARE) -> Marks:
    """Return local maxima among the top share of values: above the token before and not below the one after.

    The ends of the curve have one neighbor.
    """
    values = np.asarray(values, dtype=float)
    filled = np.where(np.isfinite(values), values, -np.inf)
    before, after = np.append(-np.inf, filled[:-1]), np.append(filled[1:], -np.inf)
    return top_share(values, share) & (filled > before) & (filled >= after)


@dataclass(frozen=True, kw_only=True, eq=False)
class Roles:
    """Which tokens are what.

    Attributes:
        preplan: Top share of ``drops``: where the local heads look far and then near again.
        anchor: Top share of FAI: what global heads of later tokens look at.
        dominated: Anchors that follow a preplan token within a few steps and look near themselves.
        introduces: For each token the number of dominated anchors that it introduces.
    """

    preplan: Marks
    anchor: Marks
    dominated: Marks
    introduces: Int[np.ndarray, " token"]


def roles(
    waad: Curve,
    fai: Curve,
    *,
    share: float = SHARE,
    look_back: int = LOOK_BACK,
    eligible: Marks | None = None,
) -> Roles:
    """Preplan tokens, anchors, dominated anchors and who introduces them.

    An anchor at t is dominated if its WAAD is at most the median and the largest drop among the ``look_back`` tokens
    before it is at least the median drop; that token (of equal ones the earliest) introduces it. The paper leaves
    both thresholds open; medians over the response are used.

    Raises:
        ShapeError: if the curves have different lengths.

    Source:
        Li et al. 2025, "Attention Illuminates LLM Reasoning", section 4.
    """
    waad, fai = np.asarray(waad, dtype=float), np.asarray(fai, dtype=float)
    if waad.shape != fai.shape:
        raise ShapeError(
            f"WAAD has {waad.shape}, FAI {fai.shape} tokens",
            hint="take both of one prompt and one head: waad(A), fai(A)",
        )
    fall = drops(waad)
    anchor = top_share(fai, share, eligible=eligible)
    near, large = np.nanmedian(waad), np.nanmedian(fall)
    dominated, introduces = np.zeros(len(waad), dtype=bool), np.zeros(len(waad), dtype=int)
    for t in np.flatnonzero(anchor):
        window = fall[max(0, t - look_back) : t]
        if len(window) and waad[t] <= near and window.max() >= large:
            dominated[t] = True
            introduces[max(0, int(t) - look_back) + int(window.argmax())] += 1
    preplan = top_share(fall, share, eligible=eligible)
    return Roles(preplan=preplan, anchor=anchor, dominated=dominated, introduces=introduces)


def credit(found: Roles, *, gain: float = 1.5, moved: float = 0.5) -> Curve:
    """Return the weight of each token's advantage: anchors get ``gain``, a dominated one gives ``moved`` of its
    extra away.

    ``1 + (g-1) [anchor, not dominated] + (1-a)(g-1) [dominated] + a(g-1) [introduces]``; used in training on
    non-negative advantages only, without gradient.

    Source:
        Li et al. 2025, "Attention Illuminates LLM Reasoning", section 4; ``a`` is not certain.
    """
    extra = gain - 1
    own = np.where(found.dominated, (1 - moved) * extra, extra) * found.anchor
    return 1 + own + moved * extra * (found.introduces > 0)


def followed(late: Marks, early: Marks, *, within: int = 1) -> tuple[int, int]:
    """Say how many late marks have an early mark at the same token or up to ``within`` before, and how many there
    are.
    """
    near = np.asarray(early, dtype=bool).copy()
    for step in range(1, within + 1):
        near[step:] |= early[:-step]
    return int((late & near).sum()), int(late.sum())


def share_followed(late: Sequence[Marks], early: Sequence[Marks], *, within: int = 1) -> float:
    """Return the same over responses, as a share of all late marks; NaN without any."""
    counts = np.array([followed(a, b, within=within) for a, b in zip(late, early, strict=True)])
    return float(counts[:, 0].sum() / counts[:, 1].sum()) if counts[:, 1].sum() else float("nan")


def shifted(marks: Marks, by: int) -> Marks:
    """Return marks moved along the response, around its end: spacing is kept, alignment is lost."""
    return np.roll(marks, by)


def shifted_among(marks: Marks, eligible: Marks, rng: np.random.Generator) -> Marks:
    """Return marks moved by a random number of eligible tokens, around the end of these; no other token is marked."""
    moved = np.zeros(len(marks), dtype=bool)
    if eligible.sum() > 1:
        moved[eligible] = shifted(np.asarray(marks)[eligible], int(rng.integers(1, eligible.sum())))
    return moved


def shuffled_within(marks: Marks, groups: Int[np.ndarray, " token"], rng: np.random.Generator) -> Marks:
    """Return marks dealt anew among tokens of the same group: each group keeps its number of marks."""
    marks, new = np.asarray(marks), np.zeros(len(marks), dtype=bool)
    for group in np.unique(groups):
        where = np.flatnonzero(groups == group)
        new[where] = rng.permutation(marks[where])
    return new


def chance(
    late: Sequence[Marks],
    early: Sequence[Marks],
    *,
    within: int = 1,
    eligible: Sequence[Marks] | None = None,
    groups: Sequence[Int[np.ndarray, " token"]] | None = None,
    draws: int = 500,
    seed: int = 0,
) -> Float[np.ndarray, " draw"]:
    """Return the share of late marks that follow an early one when the late marks are moved at random.

    Shifted around each response by a random number of tokens; or, with ``groups``, dealt anew within each group.
    Tokens that could not be marked (not ``eligible``) are passed over: the marks move along the others alone.
    """
    rng = np.random.default_rng([seed, within])
    found = np.empty(draws)
    can = [np.ones(len(m), dtype=bool) for m in late] if eligible is None else eligible
    for i in range(draws):
        if groups is None:
            moved = [shifted_among(m, c, rng) for m, c in zip(late, can, strict=True)]
        else:
            moved = [shuffled_within(m, g, rng) for m, g in zip(late, groups, strict=True)]
        found[i] = share_followed(moved, early, within=within)
    return found


def marked_minus_others(
    values: Sequence[Curve], marks: Sequence[Marks], eligible: Sequence[Marks]
) -> Float[np.ndarray, " response"]:
    """Return the mean at marked minus mean at other eligible tokens, of each response that has both.

    Example:
        >>> marks, every = np.array([True, False, False]), np.ones(3, dtype=bool)
        >>> marked_minus_others([np.array([5.0, 1.0, np.nan])], [marks], [every])
        array([4.])
    """
    found = []
    for value, mark, allowed in zip(values, marks, eligible, strict=True):
        known = allowed & np.isfinite(value)
        if (known & mark).any() and (known & ~mark).any():
            found.append(value[known & mark].mean() - value[known & ~mark].mean())
    return np.array(found)


def shift_p(
    values: Sequence[Curve], marks: Sequence[Marks], eligible: Sequence[Marks], *, draws: int, seed: int
) -> tuple[float, float]:
    """Say how likely marks shifted around each response differ as much, and the mean difference of shifted marks."""
    value, rng = marked_minus_others(values, marks, eligible).mean(), np.random.default_rng([seed, 21])
    null = np.empty(draws)
    for i in range(draws):
        moved = [shifted(m, int(rng.integers(1, len(m)))) for m in marks]
        apart = marked_minus_others(values, moved, eligible)
        null[i] = apart.mean() if len(apart) else np.nan
    null = null[np.isfinite(null)]  # shifts after which no response has both kinds of tokens are left out
    return p_above(float(value), null), float(null.mean())
