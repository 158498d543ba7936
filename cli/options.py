"""Options that hand-written commands share, as annotated types; the words are those of all other commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from workbench.commands.forms.shared import OnModel, OnPairs
from workbench.core.command import Command, text_of


def option_of(form: type[Command], name: str, more: str = "") -> Any:
    """Declare an option as another command has it.

    Args:
        more: What the help says besides.
    """
    text = text_of(form.__dataclass_fields__[name])
    told = f"{text.help} {more}".strip()
    return typer.Option(*text.flags, help=told, min=text.least, envvar=text.env or None)


def labelled(*flags: str, claim: str, more: str = "") -> Any:
    """Declare an option whose claim other commands share."""
    return typer.Option(*flags, help=f"{claim} {more}".strip())


Device = Annotated[str | None, option_of(OnModel, "device")]
Dtype = Annotated[str, option_of(OnModel, "dtype")]
Revision = Annotated[str | None, option_of(OnModel, "revision")]
Offline = Annotated[bool, option_of(OnModel, "offline")]
TrustRemoteCode = Annotated[bool, option_of(OnModel, "trust_remote_code")]
Seed = Annotated[int, option_of(OnPairs, "seed")]
Split = Annotated[str, option_of(OnPairs, "split")]
Corruption = Annotated[str | None, option_of(OnPairs, "corruption")]
TaskOptions = Annotated[list[str] | None, option_of(OnPairs, "task_options")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress, no notes.", envvar="WORKBENCH_QUIET")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would run and what it costs; load no weights.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in the same folder.")]
CircuitPath = Annotated[Path, typer.Argument(help="A circuit file, or the folder that has circuit.json.")]


class Spreading(TyperCommand):
    """A command with ``--ray [ADDRESS]``: without an address it stands for a cluster on this machine."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        given = list(args)
        for at in reversed([n for n, word in enumerate(given) if word == "--ray"]):
            if at + 1 == len(given) or given[at + 1].startswith("-"):
                given.insert(at + 1, "local")
        return super().parse_args(ctx, given)
