"""The arguments of a recorded run: of the type that its command takes, whoever wrote the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.core.errors import RunError, check_numbers
from workbench.core.strict_json import kind

# What a record may not say: where is written and who is told is decided here.
_OURS = ("out", "root", "resume", "dry_run", "serving", "progress", "note", "docs")
_TEXT = (
    *(
        "model",
        "task",
        "metric",
        "split",
        "test_split",
        "corruption",
        "device",
        "device_map",
        "dtype",
        "parts",
    ),
    *(
        "ablation",
        "reference",
        "site",
        "mode",
        "mlps",
        "query",
        "key",
        "method",
        "level",
        "keep",
        "study",
        "shard",
    ),
    *("replication", "circuit", "edit", "text", "sort", "ray"),
)
_WHOLE = (
    *("limit", "seed", "batch_tokens", "workers", "random_draws", "edges", "bootstraps", "refits", "window"),
    *("length", "n_reference", "seeds", "n_truth", "n_task", "repeat_passes", "most_passes"),
)
_SWITCHES = ("together", "per_position", "signed", "greedy", "offline", "full", "no_loss")
_LISTS = (
    "node",
    "positions",
    "sender",
    "receiver",
    "corpus",
    "prompt",
    "beside",
    "methods",
    "truths",
    "tasks",
    "levels",
)


def check_arguments(arguments: Mapping[str, Any], where: str) -> None:
    """Do nothing if every argument that is known has a type that its command takes; null is as good as absent.

    Raises:
        RunError: naming the first that has another, or that no record has.
        OptionError: for a number that is not finite, or larger than can be meant.
    """
    for name in _OURS:
        if name in arguments:
            raise _wrong(f"{where} has the argument {name!r}, which no record has")
    for name, value in arguments.items():
        if value is None:
            continue
        expected = _expected(name, value)
        if expected:
            raise _wrong(f"{where}: the argument {name} is {kind(value)}; {expected} is expected")
    check_numbers(arguments)


def _expected(name: str, value: Any) -> str:
    """What an argument should be, in words; empty if it is."""
    if name in _TEXT:
        return "" if isinstance(value, str) else "text"
    if name in _WHOLE:
        return "" if type(value) is int else "a whole number"
    if name in _SWITCHES:
        return "" if isinstance(value, bool) else "true or false"
    if name in _LISTS:
        texts = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return "" if texts else "a list of texts"
    if name == "options":
        return "" if isinstance(value, Mapping | list | tuple) else "an object or a list"
    return ""


def _wrong(message: str) -> RunError:
    return RunError(
        message, hint="the record was changed by hand; workbench runs show has the line to type for the same"
    )
