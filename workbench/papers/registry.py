"""The papers that are measured again: one file each, in this room, in a plug-in, or named on the command line.

A paper adds itself with `add_paper`. Ours are found by reading the files of this room for that line, those of others
by an entry point of ``workbench.papers`` or by ``--plugin``. Listing them loads no model and no torch: what a paper
measures with is imported lazily (`workbench.core.loading`).
"""

from __future__ import annotations

from pkgutil import iter_modules
from typing import TYPE_CHECKING

import workbench.tasks
from workbench.core.registry import Registry
from workbench.papers.kit.paper import Paper
from workbench.papers.sixty import not_built, sixty

if TYPE_CHECKING:
    from workbench.papers.kinds import Replicable


PAPERS: Registry[Paper] = Registry(
    "replication", group="workbench.papers", holds=lambda made: isinstance(made, Paper)
)


def add_paper(paper: Paper) -> Paper:
    """Register a paper by its name."""
    PAPERS.add(paper.name, paper, home=paper.module)
    return paper


PAPERS.read("workbench.papers", r'^\w+ = add_paper\(\s*(?:kit\.)?Paper\(\s*name="([\w-]+)"')


def list_replications() -> tuple[str, ...]:
    """List the names of all replications.

    Returns:
        Names in the order of the list of sixty.

    Example:
        >>> import workbench as wb
        >>> "pine" in wb.list_replications()
        True
    """
    order = [paper["name"] for paper in sixty()]
    return tuple(sorted(PAPERS, key=lambda name: order.index(name) if name in order else len(order)))


def find_paper(name: str) -> Paper:
    """A paper by name.

    Raises:
        OptionError: if it is on the list and not built yet; if there is none, with the closest spellings.
    """
    if name not in PAPERS:
        raise not_built(name, list_replications())
    return PAPERS.get(name)


def modules_of(paper: Paper) -> list[str]:
    """Say where the code of a paper stands: its own, what puts edits on a model, and tasks, known by their names."""
    tasks = (f"workbench.tasks.{module.name}" for module in iter_modules(workbench.tasks.__path__))
    return [paper.module, "workbench.edits.install", *tasks]


def find_replication(name: str) -> Replicable:
    """A replication by name.

    Raises:
        OptionError: if there is none, with the closest spellings.
    """
    return find_paper(name)
