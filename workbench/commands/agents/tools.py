"""Tools made from the commands' dataclasses: name, description, schema of the arguments, and a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from workbench.commands.agents.confined import NEVER, check_values
from workbench.commands.choices import with_names
from workbench.commands.do import asked_of, carry_out
from workbench.core.command import COMMANDS, Command, is_required, kinds_of, options_of, text_of
from workbench.core.errors import OptionError, WorkbenchError, unknown
from workbench.core.job import Job, Note
from workbench.core.json_document import document_of

# What a program may call at once; the rest are for people, or write where nobody said.
CALLED = (
    *("model list", "model show", "task list", "task show", "methods"),
    *("look", "logits", "ablate", "patch", "path-patch", "knock-out", "discover", "evaluate", "heads"),
    *("circuit list", "circuit show", "circuit summary", "circuit diff", "circuit published"),
    *("circuit validate", "circuit why", "circuit details", "circuit view", "show"),
    *("runs list", "runs show", "runs diff", "runs verify", "doctor"),
)
STARTED = (*("ablate", "patch", "path-patch", "knock-out", "discover", "evaluate", "heads"), "runs resume")
_TYPES = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean", Mapping: "object"}
_HOW = {
    "out": ("string", "Where to write, inside the folder. Default: a folder of its own."),
    "dry_run": ("boolean", "Say what would be done, with its cost; nothing is computed."),
    "resume": ("boolean", "Go on with an interrupted run in the same folder."),
    "replace": ("boolean", "Write in place of what is there."),
}


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A command as a program calls it.

    Attributes:
        name: Letters, digits and underscores: ``circuit_show``.
        command: As it is typed: ``circuit show``.
        description: What it says, with an example of the command line.
        arguments: JSON schema of its arguments.
    """

    name: str
    command: str
    description: str
    arguments: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"name": self.name, "description": self.description, "arguments": self.arguments}


@cache
def tools() -> dict[str, Tool]:
    """Return the tools by name, each made from the dataclass of its command."""
    return {_name(command): _tool(command) for command in CALLED}


def _name(command: str) -> str:
    return command.replace(" ", "_").replace("-", "_")


def _tool(command: str) -> Tool:
    form = COMMANDS.get(command)
    return Tool(
        name=_name(command),
        command=command,
        description=with_names(" ".join((form.__doc__ or "").split())),
        arguments=arguments_of(command),
    )


def arguments_of(command: str) -> dict[str, Any]:
    """Return the JSON schema of a command's arguments: its options, and how it is carried out.

    Example:
        >>> arguments_of("circuit show")["required"]
        ['circuit']
    """
    form = COMMANDS.get(command)
    options = [o for o in options_of(form) if o.name not in NEVER and not text_of(o).hidden]
    properties = {option.name: _property(form, option) for option in options}
    for name in form.declared.offers:
        if name in _HOW:
            properties[name] = {"type": _HOW[name][0], "description": _HOW[name][1]}
    return {
        "type": "object",
        "properties": properties,
        "required": [option.name for option in options if is_required(option)],
        "additionalProperties": False,
    }


def _property(form: type[Command], option: Field) -> dict[str, Any]:
    text, found = text_of(option), _type(form, option)
    if text.least is not None:
        found["minimum"] = text.least
    found["description"] = with_names(text.help)
    if option.default is not MISSING and option.default not in (None, ()):
        found["default"] = str(option.default) if isinstance(option.default, Path) else option.default
    return found


def _type(form: type[Command], option: Field) -> dict[str, Any]:
    """The type of one option; words that are known are listed."""
    hint = get_type_hints(form)[option.name]
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    names = []
    for kind in kinds_of(form, option.name):
        if kind is tuple:
            return {"type": "array", "items": {"type": "string"}}
        names.append(_TYPES[kind])
    return {"type": names[0] if len(set(names)) == 1 else sorted(set(names))}


def call(
    name: str, given: Mapping[str, Any], *, root: Path, hub: bool = False, note: Note | None = None
) -> Any:
    """Carry out a tool and return the document that ``--json`` prints.

    Args:
        root: The folder that paths must stay in; it is also the folder that relative paths are meant in.
        note: Told what the command says beside its result.

    Returns:
        The document; of an error that is explained ``{"error": {"message", "hint", "exit_code"}}``.

    Raises:
        OptionError: for a name that is no tool.
    """
    if name not in tools():
        raise unknown("tool", name, tools(), error=OptionError)
    command = tools()[name].command
    form = COMMANDS.get(command)
    try:
        check_names(command, given)
        check_values(form, given, root, hub=hub)
        wanted = {key: _given(form, key, value) for key, value in given.items()}
        if not hub and "offline" in {option.name for option in options_of(form)}:
            wanted.setdefault("offline", True)
        return document_of(carried_out(command, wanted, note=note))
    except WorkbenchError as problem:
        return error_of(problem)


def carried_out(command: str, wanted: Mapping[str, Any], *, note: Note | None = None) -> Any:
    """Carry out a command with its options, and how it is carried out, by name."""
    how: dict[str, Any] = {name: wanted[name] for name in _HOW if name in wanted}
    if note is not None:
        how["note"] = note
    options = {name: value for name, value in wanted.items() if name not in how}
    return carry_out(asked_of(COMMANDS.get(command), command, options), Job(**how))


def check_names(command: str, given: Mapping[str, Any]) -> None:
    """Do nothing if these are arguments of the command.

    Raises:
        OptionError: for the first that is not, with the closest spellings.
    """
    known = arguments_of(command)["properties"]
    for name in given:
        if name in NEVER:
            raise OptionError(f"{name} is not for programs", hint="a person types it at the command line")
        if name not in known:
            raise unknown(f"argument of {command}", name, known, error=OptionError)


def _given(form: type[Command], name: str, value: Any) -> Any:
    """Where is written is a path also for the job."""
    return Path(value) if name == "out" and isinstance(value, str) else value


def error_of(problem: WorkbenchError) -> dict[str, Any]:
    """Return the document of an error that is explained."""
    code = getattr(problem, "exit_code", 1)
    return {"error": {"message": problem.message, "hint": problem.hint, "exit_code": code}}
