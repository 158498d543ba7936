"""The studies that can be re-run. A new one is a module with a ``Study`` and one line here."""

from __future__ import annotations

from workbench.errors import OptionError, unknown
from workbench.reproduce.greater_than import GREATER_THAN
from workbench.reproduce.ioi import IOI
from workbench.reproduce.kinds import Study

STUDIES = (IOI, GREATER_THAN)


def list_studies() -> tuple[Study, ...]:
    """Every study, in the order they were added."""
    return STUDIES


def find_study(name: str) -> Study:
    """A study by name.

    Raises:
        OptionError: if there is none of this name.
    """
    for study in STUDIES:
        if study.name == name.removeprefix("published:"):
            return study
    raise unknown("study to reproduce", name, [s.name for s in STUDIES], error=OptionError)


def study_rows() -> list[dict[str, object]]:
    """One line per study: what to type, what it re-runs, on which model the paper did."""
    from workbench.published import load_published

    rows = []
    for study in STUDIES:
        paper = load_published(study.published)
        rows.append(
            {
                "study": study.name,
                "published circuit": f"published:{study.published}",
                "model of the paper": paper.model,
                "steps": len(study.steps),
                "source": paper.provenance["source"],
            }
        )
    return rows
