"""The options of ``mcp``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.command import Command, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


@command("mcp", run="workbench.commands.mcp:mcp", offers=())
@dataclass(frozen=True, kw_only=True)
class ServeTools(Command):
    """Serve the commands as tools to a program, on standard input and output (extra mcp).

    Nothing listens on a network. Paths stay inside one folder, and nothing runs code of somebody else.

    Example: workbench mcp --root . --list
    """

    root: Path = option("--root", help="The folder that tools may read and write.", default=Path("."))
    hub: bool = option("--hub", help="Let Hub models be asked for.", default=False)
    list: bool = option("--list", help="Only list the tools with their arguments.", default=False)

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if not self.list:
            yield f"{result.calls} calls were answered"
