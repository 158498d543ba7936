"""The studies that can be re-run. A new one is a module with a ``Study`` and an entry here; listing loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.circuits.published import load_published
from workbench.core.registry import Registry

if TYPE_CHECKING:
    from workbench.papers.studies.kinds import Study


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A study as it is listed.

    Attributes:
        published: Name of the circuit in ``workbench.circuits.published``.
        study: Where it is, ``module:NAME``.
    """

    name: str
    published: str
    steps: int
    study: str


ENTRIES = (
    Entry(name="ioi", published="ioi", steps=11, study="workbench.papers.studies.ioi:IOI"),
    Entry(
        name="greater-than",
        published="greater-than",
        steps=7,
        study="workbench.papers.studies.greater_than:GREATER_THAN",
    ),
)
STUDIES: Registry[Study] = Registry("study to reproduce")
for _entry in ENTRIES:
    STUDIES.lazy(_entry.name, _entry.study)


def check_study(name: str) -> str:
    """The name of a study, without ``published:``. Nothing is loaded.

    Raises:
        OptionError: if there is none of this name.
    """
    return STUDIES.check(name.removeprefix("published:"))


def find_study(name: str) -> Study:
    """A study by name.

    Raises:
        OptionError: if there is none of this name.
    """
    return STUDIES.get(check_study(name))


def study_rows() -> list[dict[str, object]]:
    """One line per study: what to type, what it re-runs, on which model the paper did."""
    rows = []
    for entry in ENTRIES:
        paper = load_published(entry.published)
        rows.append(
            {
                "study": entry.name,
                "published circuit": f"published:{entry.published}",
                "model of the paper": paper.model,
                "steps": entry.steps,
                "source": paper.provenance["source"],
            }
        )
    return rows
