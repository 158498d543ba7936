"""The reason of an edge on a terminal and as a card for notebooks."""

from __future__ import annotations

from typing import Any

from workbench.circuits.reason import Ranking, Reason
from workbench.core.show import card, page, terminal
from workbench.view.html import facts_html, results_page, table_html, text_html
from workbench.view.text import escape

MOST = 10


@terminal(Reason)
def reason_lines(reason: Reason) -> list[Any]:
    """Return where the edge was looked at, its rankings, and the numbers beside them."""
    found: list[Any] = [_headline(reason)]
    found += [list(reason.places)] if reason.places else []
    for ranking in reason.rankings:
        found += [_caption(ranking), _rows(ranking)]
    return [*found, _facts(reason), *reason.notes]


@card(Reason)
def reason_card(reason: Reason) -> str:
    """Return the same as static tables."""
    parts = [f"<p>{escape(_headline(reason))}</p>", table_html(list(reason.places), caption="where")]
    parts += [table_html(_rows(ranking), caption=_caption(ranking)) for ranking in reason.rankings]
    parts.append(facts_html(_facts(reason)))
    return "".join([*parts, *(f"<p>{escape(note)}</p>" for note in reason.notes)])


@page(Reason)
def reason_page(reason: Reason) -> str:
    """Return the reason as a page of its own, every term listed."""
    sections = [("Where", table_html(list(reason.places)))]
    sections += [(_caption(ranking, None), table_html(ranking.rows())) for ranking in reason.rankings]
    sections += [("Beside it", facts_html(_facts(reason)) + text_html("\n\n".join(reason.notes)))]
    return results_page(f"Why {reason.edge}", sections, lead=_headline(reason))


def _headline(reason: Reason) -> str:
    return f"Why {reason.edge}: {reason.model}, {reason.task}, {reason.n_pairs} pairs"


def _caption(ranking: Ranking, most: int | None = MOST) -> str:
    shown = len(ranking.labels) if most is None else min(most, len(ranking.labels))
    more = f", the largest {shown} of {len(ranking.labels)}" if shown < len(ranking.labels) else ""
    return f"{ranking.title} (sums to {ranking.sums_to}: {ranking.total:.4g} {ranking.unit}{more})"


def _rows(ranking: Ranking) -> list[dict[str, Any]]:
    return ranking.rows(MOST)


def _facts(reason: Reason) -> dict[str, Any]:
    return {**reason.facts, **{f"error: {name}": value for name, value in reason.errors.items()}}
