"""What peaks of the curves of responses go with: entropy, first tokens of words, and peaks of each other.

WAAD says from where local heads look back, FAI which tokens global heads go back to (`workbench.heads.responses`).
Every number stands beside the same one after peaks were moved at random.

Source:
    Li et al. 2025, Attention Illuminates LLM Reasoning, arXiv:2510.13554, sections 2.2 to 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from workbench.core.claims import Quantity
from workbench.core.stats.permutation import p_above
from workbench.heads.anchors import Curve, Marks, chance, marked_minus_others, peaks, share_followed, shift_p
from workbench.heads.responses import Response


def _contrast(
    names: tuple[str, str],
    curves: Sequence[Curve],
    marks: Sequence[Marks],
    eligible: Sequence[Marks],
    *,
    unit: str,
    draws: int,
    seed: int,
) -> dict[str, Quantity]:
    """Curves at marked tokens, at the other eligible ones, and the difference beside that of shifted marks."""
    apart = marked_minus_others(curves, marks, eligible)
    p, null = shift_p(curves, marks, eligible, draws=draws, seed=seed)

    def mean(sides: Sequence[Marks]) -> Quantity:
        values = [curve[own & side] for curve, own, side in zip(curves, eligible, sides, strict=True)]
        return Quantity(float(np.nanmean(np.concatenate(values))), len(apart))

    both = Quantity(apart, control=null, p=p, unit=unit, why="no response has tokens of both kinds")
    return {" minus ".join(names): both, names[0]: mean(marks), names[1]: mean([~mark for mark in marks])}


def contrast_peaks(found: Sequence[Response], *, draws: int, seed: int) -> dict[str, Quantity]:
    """Compare WAAD at first tokens of words with that of others, and entropy at peaks of WAAD with that elsewhere.

    Both in the row of the token, and in the row from which a first token is written or that of the token written from
    a peak's row. Punctuation and white space are left out.

    Args:
        draws: Of shifted marks.

    Returns:
        The means over all tokens of either kind by name; and ``one minus other`` of each response that has both, with
        its mean and p when marks are shifted around each response. WAAD in tokens, entropy in nats.

    Source:
        Li et al. 2025, arXiv:2510.13554, section 2.2.

    Example:
        >>> curve, words = np.array([4.0, 1, 4, 1]), np.ones(4, dtype=bool)
        >>> own = dict.fromkeys(("waad", "fai", "receivers", "entropy", "next_entropy"), curve)
        >>> marks = {"wordlike": words, "starts": curve > 2}
        >>> response = Response(ids=np.arange(4), n_prompt=0, **own, **marks)
        >>> found = contrast_peaks([response], draws=9, seed=0)
        >>> found["WAAD at first tokens minus WAAD inside words"].value.tolist(), found["WAAD inside words"].value
        ([3.0], 1.0)
    """
    words, begin = [r.wordlike for r in found], [r.starts for r in found]
    before, then = ([np.append(m[1:], False) for m in marks] for marks in (begin, words))
    waad, high = [r.waad for r in found], [peaks(r.waad) for r in found]
    now, following = [r.entropy for r in found], [r.next_entropy for r in found]
    rows = ("WAAD in rows before first tokens", "WAAD in rows before others")
    how = {"draws": draws, "seed": seed}
    return (
        _contrast(("WAAD at first tokens", "WAAD inside words"), waad, begin, words, unit="tokens", **how)
        | _contrast(rows, waad, before, then, unit="tokens", **how)
        | _contrast(("entropy at WAAD peaks", "entropy elsewhere"), now, high, words, unit="nats", **how)
        | _contrast(
            ("entropy after WAAD peaks", "entropy after others"), following, high, words, unit="nats", **how
        )
    )


def _couple(
    found: Sequence[Response],
    early: Sequence[Marks],
    eligible: Sequence[Marks],
    *,
    within: int,
    groups: Sequence[Int[np.ndarray, " token"]] | None = None,
    draws: int,
    seed: int,
) -> Quantity:
    """The share of the peaks of FAI that come with an early peak or up to ``within`` tokens after it, beside chance."""
    late = [peaks(r.fai) & own for r, own in zip(found, eligible, strict=True)]
    can = [own & np.isfinite(r.fai) for r, own in zip(found, eligible, strict=True)]
    null = chance(late, early, within=within, eligible=can, groups=groups, draws=draws, seed=seed)
    value = share_followed(late, early, within=within)
    return Quantity(value, int(sum(m.sum() for m in late)), float(null.mean()), p_above(value, null))


def couple_curves(found: Sequence[Response], *, draws: int, seed: int) -> dict[str, Quantity]:
    """Say with which other peaks the peaks of FAI come, of words and of punctuation, beside chance.

    Those of words also beside peaks that are dealt anew among tokens of the same kind.

    Args:
        draws: Of moved peaks.

    Source:
        Li et al. 2025, arXiv:2510.13554, sections 2.3 and 2.4.

    Example:
        >>> curve, words = np.array([4.0, 1, 4, 1, 1]), np.ones(5, dtype=bool)
        >>> own = dict.fromkeys(("waad", "fai", "receivers", "entropy", "next_entropy"), curve)
        >>> response = Response(ids=np.arange(5), n_prompt=0, wordlike=words, starts=words, **own)
        >>> couple_curves([response], draws=9, seed=0)["FAI peaks with or after WAAD peaks"].value
        1.0
    """
    words, kinds = [r.wordlike for r in found], [r.kinds for r in found]
    early, third = [peaks(r.waad) for r in found], [peaks(r.receivers) for r in found]

    def couple(other: Sequence[Marks], allowed: Sequence[Marks] = words, **how) -> Quantity:
        return _couple(found, other, allowed, draws=draws, seed=seed, **how)

    coupled = "FAI peaks with or after WAAD peaks"
    return {
        "FAI peaks at receiver peaks": couple(third, within=0),
        coupled: couple(early, within=1),
        f"{coupled}, by kind of token": couple(early, within=1, groups=kinds),
        f"{coupled}, of punctuation": couple(early, [~own for own in words], within=1),
    }
