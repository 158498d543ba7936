"""How a re-run study shows itself: each step's tables, the claims, the circuit that was found."""

from __future__ import annotations

from typing import Any

from workbench.circuits.published import load_published
from workbench.circuits.show.circuit_svg import circuit_svg
from workbench.core.claims import plain
from workbench.core.show import card, page, terminal
from workbench.papers.studies.registry import find_study
from workbench.papers.studies.result import Reproduction
from workbench.view.html import results_page, table_html, text_html


@terminal(Reproduction)
def study_table(found: Reproduction) -> list[Any]:
    """Each step's tables, then the claims with their verdicts."""
    parts: list[Any] = []
    for i, step in enumerate(found.steps, start=1):
        parts.append(f"{i}. {step.title}")
        for caption, rows in step.tables.items():
            parts += [*([caption] if caption else []), [plain(row) for row in rows] or "none"]
    shown = [{k: v for k, v in row.items() if k != "criterion"} for row in found.claim_rows()]
    return [*parts, "Claims", shown, found.lead]


@card(Reproduction)
def study_card(found: Reproduction) -> str:
    """What was re-run, and the claims."""
    return text_html(found.lead) + table_html(found.claim_rows())


@page(Reproduction)
def study_page(found: Reproduction) -> str:
    """Claims with criteria, the circuit, every table, what is uncertain in the published record."""
    sections = [("Claims", table_html(found.claim_rows()))]
    if found.circuit is not None:
        sections.append(("The circuit found here", circuit_svg(found.circuit, heading=False)))
    for i, step in enumerate(found.steps, start=1):
        tables = [
            table_html([plain(row) for row in rows], caption=caption)
            for caption, rows in step.tables.items()
            if rows
        ]
        if tables:
            sections.append((f"{i}. {step.title}", "".join(tables)))

    unsure = load_published(find_study(found.study).published).provenance["uncertain"]
    sections.append(("What is uncertain in the published record", text_html("\n\n".join(unsure))))
    return results_page(f"{found.study} on {found.model}", sections, lead=found.lead)
