"""The arguments of a recorded run as the line that asks for the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import Field
from typing import Any

from workbench.core.command import COMMANDS, OptionText, options_of, text_of
from workbench.core.plugins import TYPED
from workbench.core.run_record import RunRecord


def command_line(record: RunRecord) -> str:
    """Return ``workbench ablate -m zoo:ioi -t ioi --ablation mean ...``; what is absent or false needs no flag."""
    named = [one["plugin"] for one in record.plugins if not one.get("version") and one["plugin"] != TYPED]
    plugins = [word for name in named for word in ("--plugin", name)]
    words = ["workbench", *plugins, *record.command.split()]
    for text, value in sorted(_written(record), key=lambda found: bool(found[0].flags)):
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
