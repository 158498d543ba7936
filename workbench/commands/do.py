"""Commands from Python: the same options by name, the same folders, the same record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.commands.run_asked import run_asked
from workbench.core.command import COMMANDS, Command, is_required, item_of, kinds_of, options_of
from workbench.core.errors import OptionError, expect, unknown
from workbench.core.job import Job
from workbench.engine.distribute import Serving


def do(name: str, **given: Any) -> Any:
    """Carry out a command by name.

    Args:
        given: Its options, and how it is carried out: ``out``, ``resume``, ``dry_run``, ``progress``, ``note``.

    Returns:
        What the command prints with ``--json`` as ``to_dict()``.

    Raises:
        OptionError: for an option that the command does not have or lacks, or of another type.
        WorkbenchError: for names that are misspelt, before anything is loaded.

    Example:
        >>> do("ablate", model="zoo:ioi", task="ioi", limit=8, dry_run=True).to_dict()["interventions"]
        16
    """
    how = {f.name: given.pop(f.name) for f in fields(Job) if f.name in given}
    return carry_out(asked_of(COMMANDS.get(name), name, given), Job(**how))


def asked_of(form: type[Command], name: str, given: Mapping[str, Any]) -> Command:
    """Return the options of a command, checked against its types.

    Raises:
        OptionError: for an option that the command does not have or lacks, or of another type.
    """
    known = {f.name: f for f in options_of(form)}
    for option in given:
        if option not in known:
            raise unknown(f"option of {name}", option, known, error=OptionError)
    missing = [option for option, f in known.items() if is_required(f) and option not in given]
    if missing:
        raise OptionError(f"{name} needs {missing[0]}", hint=f"do({name!r}, {missing[0]}=...)")
    return form(**{option: _value(form, option, value) for option, value in given.items()})


def _value(form: type[Command], option: str, value: Any) -> Any:
    """A value as the option has it: a path may be a text, a list any list."""
    kinds = kinds_of(form, option)
    if value is None or (isinstance(value, bool) and bool in kinds):
        return value
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    if isinstance(value, list) and tuple in kinds:
        item = item_of(form, option)
        return tuple(item(one) if isinstance(one, str) else one for one in value)
    allowed = (*kinds, int) if float in kinds else kinds
    expect(
        value,
        tuple(kind for kind in allowed if kind is not bool),
        what=option,
        hint=f"workbench {form.declared.name} --help",
    )
    return value


def carry_out(asked: Command, job: Job) -> Any:
    """Look for all that is named, then run a command."""
    asked.check(job)
    return run_asked(asked, job)


def serve(asked: Command, *, serving: Serving) -> Any:
    """Run a command in a worker, which answers and keeps nothing."""
    return asked.run(Job(serving=serving))
