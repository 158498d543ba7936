"""What ``workbench edit measure`` is asked: the edit, the model, the tasks, the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.commands.asked.inputs import check_opening, check_task
from workbench.core.bounds import exists
from workbench.core.errors import RunError
from workbench.edits.file import load_edit

if TYPE_CHECKING:
    from workbench.commands.forms.edit import MeasureEdit
    from workbench.core.job import Job


def check_measuring(asked: MeasureEdit, job: Job) -> None:
    """Do nothing if the edit, the tasks, the text and the model are there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    load_edit(asked.edit)
    for name in (asked.task, *asked.beside):
        check_task(name, split=asked.split)
    if asked.text is not None and not exists(asked.text):
        raise RunError(f"no file {asked.text}", hint="--text takes a UTF-8 text file")
    check_opening(model=asked.model, limit=asked.limit, seed=asked.seed, **asked.opening())
