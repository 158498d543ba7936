"""What ``workbench heads`` is asked: the model, the texts, the column that the table goes by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.commands.asked.opening import check_opening
from workbench.core.bounds import exists
from workbench.core.errors import OptionError
from workbench.heads.table import check_column


def check_heads(
    *, model: str, corpus: Sequence[str | Path] = (), sort: str | None = None, **opening: Any
) -> None:
    """Do nothing if there is such a column, and the texts and the model are there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    if sort is not None:
        check_column(sort)
    for file in map(Path, corpus):
        if not exists(file):
            raise OptionError(f"no file {file}", hint="--corpus takes UTF-8 text files")
    check_opening(model=model, **opening)
