"""`workbench doctor`: what this installation has, and what would stop it from working."""

from __future__ import annotations

import sys

import typer

from cli.options import Json
from cli.printing import emit


def doctor(as_json: Json = False) -> None:
    """Say what is installed, what is known to be wrong with it, which devices there are, whether the models are whole.

    Example: workbench doctor
    """
    from workbench.commands.doctor import check_machine, check_up, check_versions

    if as_json:
        found = check_up()
        problems = found.problems
        emit(found, as_json=True)
    else:
        first = check_versions()
        emit(first, as_json=False)
        sys.stdout.flush()  # said before the seconds that importing torch takes
        second = check_machine()
        problems = (*first.problems, *second.problems)
        emit(second, as_json=False)
        if not problems:
            emit("all well", as_json=False)
    if problems:
        raise typer.Exit(3)
