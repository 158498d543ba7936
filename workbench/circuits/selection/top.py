"""Top: the best parts wherever they are."""

from __future__ import annotations

from workbench.circuits.selection.rules import Index, Ranked, Ranking, rule


@rule("top")
def top(scores: Ranked, n: int, by: Ranking, share: float | None) -> list[Index]:
    """The best parts wherever they are."""
    return scores.ranked(by)[:n]
