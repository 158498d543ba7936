"""`workbench doctor`: what this installation has, and what would stop it from working."""

from __future__ import annotations

import typer

from cli.options import Json
from cli.output import emit


def doctor(as_json: Json = False) -> None:
    """Say what is installed, which devices there are and whether the built-in models are whole.

    Example: workbench doctor
    """
    from workbench.health import check_up

    found = check_up()
    emit(found, as_json=as_json)
    if found.problems:
        raise typer.Exit(3)
