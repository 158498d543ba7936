"""PNR, the positive-negative ratio: a share of what helps, then the strongest of either sign."""

from __future__ import annotations

from workbench.circuits.selection.rules import Index, Ranked, Ranking, rule


@rule("pnr", own_order=True, share=0.7, source="arXiv:2510.25786")
def by_ratio(scores: Ranked, n: int, by: Ranking, share: float | None) -> list[Index]:
    """A share of the number by signed score, the rest by size among those left (positive-negative ratio).

    The published shares are .6 to .9. Where fewer
    parts are positive than the share asks for, the first part ends with the least negative ones, as in the published
    code.

    Source:
        arXiv:2510.25786.
    """
    first = scores.ranked("signed")[: int((share or 0.0) * n)]
    taken = set(first)
    rest = (index for index in scores.ranked("absolute") if index not in taken)
    return [*first, *(index for index, _ in zip(rest, range(n - len(first)), strict=False))]
