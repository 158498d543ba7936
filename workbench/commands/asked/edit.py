"""What ``workbench edit measure`` is asked: the edit, the model, the tasks, the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.commands.asked.opening import check_opening, check_task
from workbench.core.bounds import exists
from workbench.core.errors import RunError
from workbench.edits.files import load_edit


def check_measuring(
    edit: str | Path,
    *,
    model: str,
    task: str,
    beside: Sequence[str] = (),
    text: str | Path | None = None,
    split: str = "test",
    **opening: Any,
) -> None:
    """Do nothing if the edit, the tasks, the text and the model are there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    load_edit(edit)
    for name in (task, *beside):
        check_task(name, split=split)
    if text is not None and not exists(text):
        raise RunError(f"no file {text}", hint="--text takes a UTF-8 text file")
    check_opening(model=model, **opening)
