"""How a command is carried out and told: options that no record has, as annotated types."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperCommand

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress, no notes.", envvar="WORKBENCH_QUIET")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would run and what it costs; load no weights.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in the same folder.")]

Replace = Annotated[
    bool, typer.Option("--replace", help="Write over what another question left in the same folder.")
]
HOW = {"dry_run": DryRun, "resume": Resume, "replace": Replace}  # what a command may offer besides --out


class Spreading(TyperCommand):
    """A command with ``--ray [ADDRESS]``: without an address it stands for a cluster on this machine."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        given = list(args)
        for at in reversed([n for n, word in enumerate(given) if word == "--ray"]):
            if at + 1 == len(given) or given[at + 1].startswith("-"):
                given.insert(at + 1, "local")
        return super().parse_args(ctx, given)
