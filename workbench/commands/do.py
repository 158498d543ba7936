"""Commands from Python: the same options by name, the same folders, the same record."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from workbench.core.command import COMMANDS, Command
from workbench.core.job import Job
from workbench.engine.distribute import Serving


def do(name: str, **given: Any) -> Any:
    """Carry out a command by name.

    Args:
        given: Its options, and how it is carried out: ``out``, ``resume``, ``dry_run``, ``progress``, ``note``.

    Returns:
        What the command prints with ``--json`` as ``to_dict()``.

    Raises:
        WorkbenchError: for what is misspelt, before anything is loaded.

    Example:
        >>> do("ablate", model="zoo:ioi", task="ioi", limit=8, dry_run=True).to_dict()["interventions"]
        16
    """
    how = {f.name: given.pop(f.name) for f in fields(Job) if f.name in given}
    return carry_out(COMMANDS.get(name)(**given), Job(**how))


def carry_out(asked: Command, job: Job) -> Any:
    """Look for all that is named, then run a command."""
    asked.check(job)
    return asked.run(job)


def serve(asked: Command, *, serving: Serving) -> Any:
    """Run a command in a worker, which answers and keeps nothing."""
    return asked.run(Job(serving=serving))
