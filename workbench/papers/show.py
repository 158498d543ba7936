"""How replications show themselves: claims with verdicts, pictures and tables, for notebooks, terminals and pages."""

from __future__ import annotations

from typing import Any

from workbench.core.claims import plain
from workbench.core.show import card, page, terminal
from workbench.papers.all_page import papers_page, time_rows
from workbench.papers.result import Result, Results
from workbench.papers.sixty import listed
from workbench.view.claims import claims_html
from workbench.view.html import results_page, table_html, text_html


@terminal(Result)
def replication_table(found: Result) -> list[Any]:
    """Tables, then the claims with their verdicts."""
    parts: list[Any] = [f"{found.title} ({found.source})"]
    for caption, rows in found.findings.tables.items():
        parts += [caption, [plain(row) for row in rows] or "none"]
    notes = [f"note: {text}" for text in found.notes]
    claims = ["Claims", found.claim_rows()] if found.findings.claims else []
    return [*parts, *claims, *notes, found.lead]


@card(Result)
def replication_card(found: Result) -> str:
    """What was measured, the claims, the pictures."""
    pictures = "".join(picture.svg() for picture in found.findings.pictures.values())
    said = text_html("\n\n".join((found.lead, *found.notes)))
    claims = claims_html(found.claim_rows()) if found.findings.claims else ""
    return said + claims + pictures


@page(Result)
def replication_page(found: Result) -> str:
    """The page to read."""
    return results_page(f"{found.title} on {found.model}", _sections(found), lead=found.lead)


def _sections(found: Result) -> list[tuple[str, str]]:
    """(heading, markup): claims, pictures, criteria, tables, setting."""
    controls = [{"control": text} for text in found.controls]
    setting = [{"what": k, "value": str(v)} for k, v in found.plan.items() if k != "code"]
    said = listed(found.name).get("says", "")
    paper = ("The paper, and what is asked here", text_html(f"{found.source}\n\n{said}\n\n{found.about}"))
    if not found.findings.claims:
        shown = found.findings.tables.items()
        return [paper, *((caption, table_html([plain(r) for r in rows])) for caption, rows in shown)]
    return [
        ("Claims", claims_html(found.claim_rows())),
        paper,
        *([("Notes", text_html("\n\n".join(found.notes)))] if found.notes else []),
        *((caption, picture.svg()) for caption, picture in found.findings.pictures.items()),
        ("How each claim is decided", table_html(found.criteria_rows())),
        ("Controls", table_html(controls)),
        *((caption, table_html([plain(r) for r in rows])) for caption, rows in found.findings.tables.items()),
        ("Setting", table_html(setting)),
    ]


@terminal(Results)
def replications_table(found: Results) -> list[Any]:
    """Every claim, and which replications gave no result."""
    gone = [{"replication": name, "gave no result because": why} for name, why in found.failed.items()]
    return [found.rows(), time_rows(found), *([gone] if gone else []), found.lead]


@card(Results)
def replications_card(found: Results) -> str:
    """Every claim of every replication."""
    return text_html(found.lead) + claims_html(found.rows())


@page(Results)
def replications_page(found: Results) -> str:
    """What each paper said, what was found here, a picture; then all claims."""
    return papers_page(found)
