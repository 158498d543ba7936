"""The papers that are measured again: one file each, in this room, in a plug-in, or named on the command line.

A paper adds itself with `add_paper`. Ours are found by reading the files of this room for that line, those of others
by an entry point of ``workbench.papers`` or by ``--plugin``. Listing them loads no model and no torch: what a paper
measures with is imported lazily (`workbench.core.loading`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.core.registry import Registry
from workbench.papers.kit.paper import Paper
from workbench.papers.options import (
    Relevance,
)
from workbench.papers.sixty import not_built, sixty

if TYPE_CHECKING:
    from workbench.papers.kinds import Replicable


@dataclass(frozen=True, kw_only=True)
class ListedPaper:
    """A paper that is measured again.

    Attributes:
        module: The module with its ``REPLICATION``.
        options: A frozen dataclass with defaults: sizes and thresholds.
        model: The built-in model on which its claims can be tested.
    """

    name: str
    module: str
    options: type
    title: str
    source: str
    model: str


_WAITING = (  # until they stand lazily in their own file
    ListedPaper(
        name="relevance",
        module="workbench.papers.relevance",
        options=Relevance,
        title="Relevance propagation and relevance patching",
        source="Achtibat et al. 2024, arXiv:2402.05602; Rezaei Jafari et al. 2025, arXiv:2508.21258; Li et al. 2017",
        model="zoo:ioi",
    ),
)

PAPERS: Registry[Any] = Registry(
    "replication", group="workbench.papers", holds=lambda made: isinstance(made, Paper)
)


def add_paper(paper: Paper) -> Paper:
    """Register a paper by its name."""
    PAPERS.add(paper.name, paper, home=paper.module)
    return paper


PAPERS.read("workbench.papers", r'^\w+ = add_paper\(\s*(?:kit\.)?Paper\(\s*name="([\w-]+)"')
for _paper in _WAITING:
    if _paper.name not in PAPERS:
        PAPERS.add(_paper.name, _paper, home=_paper.module)


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


def find_paper(name: str) -> Any:
    """A paper by name.

    Raises:
        OptionError: if it is on the list and not built yet; if there is none, with the closest spellings.
    """
    if name not in PAPERS:
        raise not_built(name, list_replications())
    return PAPERS.get(name)


def find_replication(name: str) -> Replicable:
    """A replication by name.

    Raises:
        OptionError: if there is none, with the closest spellings.
    """
    found = find_paper(name)
    return import_module(found.module).REPLICATION if isinstance(found, ListedPaper) else found
