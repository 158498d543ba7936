"""The tools over stdio, by the official Python SDK of the Model Context Protocol. Nothing listens on a network."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.agents import background
from workbench.commands.agents.guide import INSTRUCTIONS
from workbench.commands.agents.tools import STARTED, arguments_of, call, error_of, tools
from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.json_document import document_of

if TYPE_CHECKING:
    from mcp.server import Server

NAME = "circuit-workbench"
_JOB = {"type": "string", "description": "What start returned as job."}
_OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "start": (
        "Begin long work in a process of its own and return at once. Then ask status; stop ends it, and "
        "start with the command 'runs resume' and {folder} goes on. Commands and their options are those of the tools.",
        {
            "command": {"type": "string", "enum": list(STARTED), "description": "As it is typed."},
            "options": {"type": "object", "description": "As the tool of that command takes them."},
        },
    ),
    "status": (
        "Say what became of a job: state, its result or error, and the record of its run.",
        {"job": _JOB},
    ),
    "stop": ("End a job as Ctrl-C does; what is finished stays, and runs resume goes on.", {"job": _JOB}),
}


class ToolServer:
    """Tools over one folder: what they are, and calls of them one at a time."""

    def __init__(self, root: Path, *, hub: bool = False) -> None:
        self.root, self.hub = root.resolve(), hub
        self.calls = 0
        self._one = threading.Lock()

    def listed(self) -> list[dict[str, Any]]:
        """Return name, description and schema of every tool."""
        own = [
            {
                "name": name,
                "description": said,
                "arguments": {
                    "type": "object",
                    "properties": properties,
                    "required": list(properties),
                    "additionalProperties": False,
                },
            }
            for name, (said, properties) in _OWN.items()
        ]
        return [*(tool.to_dict() for tool in tools().values()), *own]

    def call(self, name: str, given: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """Carry out a tool; return its document, and what was said beside it."""
        notes: list[str] = []
        with self._one:
            self.calls += 1
            return self._called(name, given, notes.append), notes

    def _called(self, name: str, given: Mapping[str, Any], note: Callable[[str], None]) -> Any:
        try:
            if name not in _OWN:
                return call(name, given, root=self.root, hub=self.hub, note=note)
            if missing := set(_OWN[name][1]) - set(given):
                raise OptionError(
                    f"{name} needs {sorted(missing)[0]}", hint=f"give {', '.join(_OWN[name][1])}"
                )
            if name == "start":
                command, options = str(given["command"]), given["options"]
                return document_of(background.start(command, options, root=self.root, hub=self.hub))
            how = {"status": background.status, "stop": background.stop}[name]
            return document_of(how(str(given["job"]), root=self.root))
        except WorkbenchError as problem:
            return error_of(problem)


def serve(root: Path, *, hub: bool = False) -> ToolServer:
    """Answer calls on standard input and output until it is closed.

    Raises:
        OptionError: if the SDK is not installed, or there is no such folder.
    """
    if not root.is_dir():
        raise OptionError(f"no folder {root}", hint="--root names the folder that tools may use")
    try:
        import anyio
        import mcp  # noqa: F401
    except ImportError:
        raise OptionError(
            "the SDK of the Model Context Protocol is not installed",
            hint="pip install 'circuit-workbench[mcp]'",
        ) from None
    os.chdir(root)  # relative paths of tools are meant here
    served = ToolServer(root, hub=hub)
    anyio.run(_run, served)
    return served


async def _run(served: ToolServer) -> None:
    from mcp.server.stdio import stdio_server

    server = server_of(served)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def server_of(served: ToolServer) -> Server[Any]:
    """Return the SDK's server for these tools."""
    import anyio
    import mcp_types as types
    from mcp.server import Server

    async def list_tools(context: Any, asked: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(name=t["name"], description=t["description"], input_schema=t["arguments"])
                for t in served.listed()
            ]
        )

    async def call_tool(context: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        document, notes = await anyio.to_thread.run_sync(served.call, asked.name, asked.arguments or {})
        failed = isinstance(document, dict) and set(document) == {"error"}
        said = [types.TextContent(type="text", text=f"note: {note}") for note in notes]
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=json.dumps(document, allow_nan=False)), *said],
            structured_content=document if isinstance(document, dict) else {"result": document},
            is_error=failed,
        )

    return Server(NAME, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


__all__ = ["ToolServer", "arguments_of", "serve", "server_of"]
