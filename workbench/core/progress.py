"""How long work says how far it is: a function of parts done, parts in all and what is being done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from workbench.core.registry import load

Progress = Callable[[int, int, str], None]


def silent(*what: Any) -> None:
    """Say nothing."""


def live(progress: Progress | None) -> Progress:
    """Return who is told how far work is: whoever was named, else in a notebook a bar below the cell, else nobody.

    Example:
        >>> live(None) is silent, live(print) is print
        (True, True)
    """
    if progress is not None:
        return progress
    display = notebook_display()
    return silent if display is None else load("workbench.view.notebook_bar:NotebookBar")(display)


def notebook_display() -> Any | None:
    """Return IPython's module ``display`` where this process is the kernel of a notebook, else None.

    Nothing is imported: a kernel has it already.
    """
    shell = sys.modules.get("IPython")
    if shell is None or getattr(shell.get_ipython(), "kernel", None) is None:
        return None
    return shell.display


def tell_stopped(progress: Progress, *, kept: bool) -> None:
    """Tell a bar that the work was interrupted, if it can say so, and whether what is finished is kept."""
    stopped = getattr(progress, "stopped", None)
    if stopped is not None:
        stopped(kept=kept)
