"""What ``workbench heads`` is asked: the model, the texts, the column that the table goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.commands.asked.inputs import check_opening
from workbench.core.bounds import exists
from workbench.core.errors import OptionError
from workbench.heads.table import check_column

if TYPE_CHECKING:
    from workbench.commands.forms.heads import Heads
    from workbench.core.job import Job


def check_heads(asked: Heads, job: Job) -> None:
    """Do nothing if there is such a column, and the texts and the model are there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    if asked.sort is not None:
        check_column(asked.sort)
    for file in asked.corpus:
        if not exists(file):
            raise OptionError(f"no file {file}", hint="--corpus takes UTF-8 text files")
    check_opening(model=asked.model, limit=asked.limit, seed=asked.seed, **asked.opening())
