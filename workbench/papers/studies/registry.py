"""The studies that can be re-run: one file each, in this room, in a plug-in, or named on the command line.

A study adds itself with `add_study`; ours are found by reading the files of this room for that line, those of others by
an entry point of ``workbench.studies`` or by ``--plugin``. Listing them loads no torch.
"""

from __future__ import annotations

from workbench.circuits.published import load_published
from workbench.core.registry import Registry
from workbench.papers.studies.kinds import Study

STUDIES: Registry[Study] = Registry(
    "study to reproduce", group="workbench.studies", holds=lambda made: isinstance(made, Study)
)


def add_study(study: Study) -> Study:
    """Register a study by its name."""
    STUDIES.add(study.name, study, home=study.circuit.__module__)
    return study


STUDIES.read(
    "workbench.papers.studies",
    r'^\w+ = add_study\(\s*Study\(\s*name="([\w-]+)"',
    first=("ioi", "greater_than"),
)


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
    for name, study in STUDIES.items():
        paper = load_published(study.published)
        rows.append(
            {
                "study": name,
                "published circuit": f"published:{study.published}",
                "model of the paper": paper.model,
                "steps": len(study.steps),
                "source": paper.provenance["source"],
            }
        )
    return rows
