"""The arguments of a recorded run as the line that asks for the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field
from typing import Any

from workbench.core.command import COMMANDS, Command, OptionText, options_of, plain_value, text_of
from workbench.core.plugins import TYPED, in_use
from workbench.core.run_record import RunRecord


def command_line(record: RunRecord) -> str:
    """Return ``workbench ablate -m zoo:ioi -t ioi --ablation mean ...``; what is absent or false needs no flag."""
    return _line(record.command, record.plugins, _written(record))


def typed_line(asked: Command) -> str:
    """Return the line that asks for the same as a command does now; what has its default is left out.

    Example:
        >>> from workbench.commands.forms.sweep import Ablate
        >>> typed_line(Ablate(model="zoo:ioi", task="ioi", limit=8))
        'workbench ablate -m zoo:ioi -t ioi -n 8'
    """
    given = ((option, plain_value(getattr(asked, option.name))) for option in options_of(type(asked)))
    said = [(text_of(option), value) for option, value in given if value != _default(option)]
    return _line(asked.declared.name, in_use(), said)


def _default(option: Field[Any]) -> Any:
    made = option.default if option.default_factory is MISSING else option.default_factory()
    return made if made is MISSING else plain_value(made)


def _line(
    command: str, plugins: Iterable[Mapping[str, str]], written: Iterable[tuple[OptionText, Any]]
) -> str:
    named = [one["plugin"] for one in plugins if not one.get("version") and one["plugin"] != TYPED]
    words = ["workbench", *(word for name in named for word in ("--plugin", name)), *command.split()]
    for text, value in sorted(written, key=lambda found: bool(found[0].flags)):
        words += _words(text, value)
    return shlex.join(words)


def _written(record: RunRecord) -> Iterator[tuple[OptionText, Any]]:
    """How each argument is written, with its value; those of a command that is not known here by their names."""
    given = dict(record.arguments)
    known: tuple[Field[Any], ...] = ()
    retired: tuple[str, ...] = ()
    if record.command in COMMANDS:
        form = COMMANDS.get(record.command)
        known, retired = options_of(form), form.declared.retired
    for option in known:
        yield text_of(option), given.pop(option.name, None)
    for name, value in given.items():
        if name not in retired:
            yield OptionText(flags=("--" + name.replace("_", "-"),)), value


def _words(text: OptionText, value: Any) -> list[str]:
    """One option as words; none for what is the default by being absent."""
    flag = text.flags[0] if text.flags else ""
    if value is None or (value is False and "/" not in flag):
        return []
    if isinstance(value, bool):
        on, _, off = flag.partition("/")
        return [on if value else off]
    items = [_item(item) for item in _items(value)]
    if text.commas:
        items = [",".join(items) or text.nothing]
    return [word for item in items for word in ([flag, item] if flag else [item])]


def _items(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [(name, item) for name, item in value.items()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _item(item: Any) -> str:
    """A value as a word; a named one as ``NAME=VALUE``."""
    if not isinstance(item, tuple):
        return str(item)
    name, value = item
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
