"""The arguments of a recorded run as the line that asks for the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.core.run_record import RunRecord

_SHORT = {"model": "-m", "task": "-t"}
_FLAGS = {
    "positions": "--position",
    "random_draws": "--random",
    **{"node": "--node", "sender": "--sender", "receiver": "--receiver"},
}
_EITHER = {"signed": ("--signed", "--absolute"), "greedy": ("--greedy", "--best")}  # None: as the method does
_FIRST = {"study", "replication", "circuit", "edit"}  # typed without a flag


def command_line(record: RunRecord) -> str:
    """``workbench ablate -m zoo:ioi -t ioi --ablation mean ...``; what is absent or false needs no flag."""
    given = record.arguments
    named = [w for one in record.plugins if not one.get("version") for w in ("--plugin", one["plugin"])]
    words = ["workbench", *named, *record.command.split()]
    words += [str(given[name]) for name in _FIRST if given.get(name)]
    if record.command == "bench discovery":
        words += list(_bench(given))
    else:
        skipped = {"task", "corruption"} if record.command == "reproduce" else set()
        if record.command == "demo":
            skipped = {"method"}
        order = [*_SHORT, *(name for name in given if name not in _SHORT)]
        words += [w for k in order if k not in _FIRST | skipped for w in _words(k, given.get(k))]
    return shlex.join(words)


def _words(name: str, value: Any) -> Iterator[str]:
    """One argument as words; none for what is the default by being absent."""
    if value is None or value == []:
        return
    flag = _SHORT.get(name) or _FLAGS.get(name) or "--" + name.replace("_", "-")
    if name in _EITHER:
        yield _EITHER[name][0 if value else 1]
    elif isinstance(value, bool):
        if value:
            yield flag
    elif name == "options" and isinstance(value, list | tuple):  # of a replication
        for item in value:
            yield from ("--set", str(item))
    elif name == "options" and isinstance(value, Mapping):
        for key, item in value.items():
            yield from ("--option", f"{key}={item if isinstance(item, str) else json.dumps(item)}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from (flag, str(item))
    else:
        yield from (flag, str(value))


def _bench(given: Mapping[str, Any]) -> Iterator[str]:
    """Settings of a bench: lists as one comma-separated word."""
    for name in ("methods", "truths", "tasks", "levels"):
        chosen = given.get(name)
        if chosen or (chosen is not None and name != "methods"):
            words = [str(x) for x in chosen] if isinstance(chosen, list | tuple) else [str(chosen)]
            yield from (f"--{name}", ",".join(words) or "none")
    for name in ("seeds", "seed", "shard", "ray", "workers"):
        if given.get(name) is not None:
            yield from (f"--{name}", str(given[name]))
