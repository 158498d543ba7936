"""What replications and reproductions are asked: the paper or study, its options, the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbench.commands.asked.opening import check_opening
from workbench.papers.options import options_from
from workbench.papers.registry import find_paper
from workbench.papers.studies.registry import check_study


def check_replication(
    name: str, options: Iterable[str] = (), *, model: str | None = None, **opening: Any
) -> None:
    """Do nothing if there is such a replication, with such options, and the model is there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    paper = find_paper(name)
    options_from(options, paper.options, name)
    check_opening(model=model or paper.model, **opening)


def check_reproduction(study: str, *, model: str, **opening: Any) -> None:
    """Do nothing if there is such a study, and the model is there.

    Raises:
        WorkbenchError: if not, with the closest spellings.
    """
    check_study(study)
    check_opening(model=model, **opening)
