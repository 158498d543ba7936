"""What peaks of the curves of responses go with: entropy, first tokens of words, and peaks of each other.

WAAD says from where local heads look back, FAI which tokens global heads go back to (`workbench.heads.responses`).
Every number stands beside the same one after peaks were moved at random.

Source:
    Li et al. 2025, Attention Illuminates LLM Reasoning, arXiv:2510.13554, sections 2.2 to 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from workbench.core.stats.permutation import p_above
from workbench.heads.anchors import Curve, Marks, chance, marked_minus_others, peaks, share_followed, shift_p
from workbench.heads.responses import Response


class MarkContrast(NamedTuple):
    """A curve at marked tokens and at others, in the unit of the curve.

    Attributes:
        apart: Marked minus others, one value for each response that has both.
        marked, others: Means over all tokens of either kind.
        shifted: Mean of ``apart`` when marks are shifted around each response.
        p: How often shifted marks differ as much.
    """

    apart: Float[np.ndarray, " response"]
    marked: float
    others: float
    shifted: float
    p: float


def contrast_marks(
    curves: Sequence[Curve], marks: Sequence[Marks], eligible: Sequence[Marks], *, draws: int, seed: int
) -> MarkContrast:
    """Compare curves at marked tokens with the other eligible ones, and with marks that are shifted.

    Args:
        curves, marks, eligible: Of each response, one value a token.
        draws: Of shifts.

    Example:
        >>> curve, every = np.array([9.0, 1, 1, 1]), np.ones(4, dtype=bool)
        >>> found = contrast_marks([curve], [curve > 5], [every], draws=9, seed=0)
        >>> found.apart.tolist(), found.marked, found.others, found.p
        ([8.0], 9.0, 1.0, 0.1)
    """
    apart = marked_minus_others(curves, marks, eligible)
    p, null = shift_p(curves, marks, eligible, draws=draws, seed=seed)

    def mean(sides: Sequence[Marks]) -> float:
        values = [curve[own & side] for curve, own, side in zip(curves, eligible, sides, strict=True)]
        return float(np.nanmean(np.concatenate(values)))

    return MarkContrast(apart, mean(marks), mean([~mark for mark in marks]), null, p)


class PeakContrasts(NamedTuple):
    """What the paper compares at words.

    Attributes:
        first: WAAD at first tokens of words, in the row that reads one; in tokens.
        before: WAAD in the row from which a first token is written; in tokens.
        entropy: Entropy of the tokens at WAAD peaks, in nats.
        after: Entropy of the tokens written from a WAAD peak's row, in nats.
    """

    first: MarkContrast
    before: MarkContrast
    entropy: MarkContrast
    after: MarkContrast


def contrast_peaks(found: Sequence[Response], *, draws: int, seed: int) -> PeakContrasts:
    """Compare WAAD at first tokens of words with that of others, and entropy at peaks of WAAD with that elsewhere.

    Punctuation and white space are left out.

    Args:
        draws: Of shifted marks.

    Source:
        Li et al. 2025, arXiv:2510.13554, section 2.2.

    Example:
        >>> curve, words = np.array([4.0, 1, 4, 1]), np.ones(4, dtype=bool)
        >>> own = dict.fromkeys(("waad", "fai", "receivers", "entropy", "next_entropy"), curve)
        >>> marks = {"wordlike": words, "starts": curve > 2}
        >>> response = Response(ids=np.arange(4), n_prompt=0, **own, **marks)
        >>> contrast_peaks([response], draws=9, seed=0).first.apart.tolist()
        [3.0]
    """
    words, begin = [r.wordlike for r in found], [r.starts for r in found]
    before, then = ([np.append(m[1:], False) for m in marks] for marks in (begin, words))
    waad, high = [r.waad for r in found], [peaks(r.waad) for r in found]
    cases = (
        (waad, begin, words),
        (waad, before, then),
        ([r.entropy for r in found], high, words),
        ([r.next_entropy for r in found], high, words),
    )
    return PeakContrasts(*(contrast_marks(*case, draws=draws, seed=seed) for case in cases))


class PeakCoupling(NamedTuple):
    """How many peaks come with or after others.

    Attributes:
        share: Of the late peaks, 0 to 1.
        chance: The same, when late peaks are moved at random.
        p: How often moved peaks follow as often.
        n: Late peaks.
    """

    share: float
    chance: float
    p: float
    n: int


def couple_peaks(
    found: Sequence[Response],
    early: Sequence[Marks],
    eligible: Sequence[Marks],
    *,
    within: int,
    groups: Sequence[Int[np.ndarray, " token"]] | None = None,
    draws: int,
    seed: int,
) -> PeakCoupling:
    """Say how many peaks of FAI come with an early peak or after it, and how many would by chance.

    Args:
        early: Peaks of another curve of each response.
        eligible: Tokens whose peaks count.
        within: How many tokens later a peak may come.
        groups: Peaks are dealt anew within these, in place of being shifted among eligible tokens.
        draws: Of moved peaks.

    Source:
        Li et al. 2025, arXiv:2510.13554, sections 2.3 and 2.4.

    Example:
        >>> curve, words = np.array([4.0, 1, 4, 1, 1]), np.ones(5, dtype=bool)
        >>> own = dict.fromkeys(("waad", "fai", "receivers", "entropy", "next_entropy"), curve)
        >>> response = Response(ids=np.arange(5), n_prompt=0, wordlike=words, starts=words, **own)
        >>> couple_peaks([response], [peaks(curve)], [words], within=0, draws=9, seed=0).share
        1.0
    """
    late = [peaks(r.fai) & own for r, own in zip(found, eligible, strict=True)]
    can = [own & np.isfinite(r.fai) for r, own in zip(found, eligible, strict=True)]
    null = chance(late, early, within=within, eligible=can, groups=groups, draws=draws, seed=seed)
    value = share_followed(late, early, within=within)
    return PeakCoupling(value, float(null.mean()), p_above(value, null), int(sum(m.sum() for m in late)))


class PeakCouplings(NamedTuple):
    """Peaks of FAI, by what they come with.

    Attributes:
        receivers: Of words, with peaks of receiver heads.
        waad: Of words, with peaks of WAAD or right after them.
        by_kind: The same, against peaks that are dealt anew among tokens of the same kind.
        punctuation: As ``waad``, of punctuation and white space.
    """

    receivers: PeakCoupling
    waad: PeakCoupling
    by_kind: PeakCoupling
    punctuation: PeakCoupling


def couple_curves(found: Sequence[Response], *, draws: int, seed: int) -> PeakCouplings:
    """Say with which other peaks the peaks of FAI come, of words and of punctuation, beside chance.

    Args:
        draws: Of moved peaks.

    Source:
        Li et al. 2025, arXiv:2510.13554, sections 2.3 and 2.4.

    Example:
        >>> curve, words = np.array([4.0, 1, 4, 1, 1]), np.ones(5, dtype=bool)
        >>> own = dict.fromkeys(("waad", "fai", "receivers", "entropy", "next_entropy"), curve)
        >>> response = Response(ids=np.arange(5), n_prompt=0, wordlike=words, starts=words, **own)
        >>> couple_curves([response], draws=9, seed=0).waad.share
        1.0
    """
    words, kinds = [r.wordlike for r in found], [r.kinds for r in found]
    early, third = [peaks(r.waad) for r in found], [peaks(r.receivers) for r in found]

    def couple(other: Sequence[Marks], allowed: Sequence[Marks] = words, **how) -> PeakCoupling:
        return couple_peaks(found, other, allowed, draws=draws, seed=seed, **how)

    return PeakCouplings(
        receivers=couple(third, within=0),
        waad=couple(early, within=1),
        by_kind=couple(early, within=1, groups=kinds),
        punctuation=couple(early, [~own for own in words], within=1),
    )
