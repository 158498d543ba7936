"""The command ``mcp`` as a function: serve the tools until standard input is closed, or list them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.commands.agents.server import ToolServer, serve
from workbench.commands.forms.mcp import ServeTools
from workbench.core.job import Job
from workbench.core.show import Told


@dataclass(frozen=True, kw_only=True)
class Answered(Told):
    """Tools that were listed, or how many calls were answered; standard output was the wire, and gets nothing."""

    tools: tuple[dict[str, Any], ...] = ()
    calls: int = 0

    @property
    def raw(self) -> str | None:
        return None if self.tools else ""

    def to_dict(self) -> list[dict[str, Any]]:
        """Return name, description and arguments of every tool."""
        return [dict(tool) for tool in self.tools]

    def to_terminal(self) -> list[Any]:
        """Return one line for each tool."""
        return [
            {"tool": tool["name"], "what it does": tool["description"].split(". ")[0]} for tool in self.tools
        ]


def mcp(asked: ServeTools, job: Job) -> Answered:
    """Serve, or list."""
    if asked.list:
        return Answered(tools=tuple(ToolServer(asked.root).listed()))
    return Answered(calls=serve(asked.root, hub=asked.hub).calls)
