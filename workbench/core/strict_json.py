"""Reading JSON that somebody else wrote: strict, bounded in size and depth, every failure explained."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core.bounds import read_bytes, shown
from workbench.core.errors import CircuitError, WorkbenchError, close_names

MOST_BYTES = 64_000_000  # a circuit of 500,000 edges has about 40 MB
MOST_DEPTH = 64  # our own files nest 6 deep
_ANOTHER = "name another file: this one was not written by the workbench"
_SMALLER = "write a number that a float holds: up to 1e308, and at most 300 digits"
MOST_DIGITS = 300  # a float ends at 308
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[{]+|[\]}]+', re.DOTALL)


def read_text(
    path: str | os.PathLike[str],
    *,
    most_bytes: int = MOST_BYTES,
    error: type[WorkbenchError] = CircuitError,
) -> str:
    """Return the text of a file that is there, is a file, is not absurdly large and is UTF-8.

    Raises:
        WorkbenchError: of the type ``error``, saying which of these it is not.
    """
    path = Path(path)
    try:
        data = read_bytes(path, most_bytes=most_bytes, error=error)
    except WorkbenchError as problem:
        if isinstance(problem.__cause__, FileNotFoundError):
            raise error(f"no file {shown(path)}", hint=_neighbours(path)) from problem
        raise
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(
            f"{path} is not UTF-8 text: byte {problem.start} is 0x{data[problem.start]:02x}",
            hint="save it as UTF-8 without a byte-order mark",
        ) from problem


def parse(
    text: str, *, where: str, error: type[WorkbenchError] = CircuitError, nan_is_null: bool = False
) -> Any:
    """Parse JSON: no NaN (or as null), no Infinity, no key twice, at most `MOST_DEPTH` levels of nesting.

    A whole number has at most `MOST_DIGITS` digits, so that each can be shown, and compared with any other.

    The depth is counted before the parser runs, so that a file of brackets costs neither stack nor memory.

    Raises:
        WorkbenchError: of the type ``error``, with line and column.
    """
    if too_deep(text.encode("utf-8")):
        raise error(
            f"{where} nests more than {MOST_DEPTH} levels deep; it is not a file of ours", hint=_ANOTHER
        )

    def refuse(constant: str) -> None:
        if nan_is_null and constant == "NaN":
            return None
        raise error(f"{where} contains {constant}, which is not a number in JSON", hint="use null")

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise error(f"{where} contains {digits[:40]}, which is too large for a number", hint=_SMALLER)
        return value

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise error(f"{where} contains {digits[:40]}..., which is too large for a number", hint=_SMALLER)
        return int(digits)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = first_twice([name for name, _ in pairs])
            raise error(
                f"{where} has the key {twice!r:.80} twice in one object", hint="remove one of the two"
            )
        return found

    try:
        return json.loads(
            text, parse_constant=refuse, parse_float=number, parse_int=whole, object_pairs_hook=members
        )
    except json.JSONDecodeError as problem:
        raise error(
            f"{where} is not complete JSON: {problem.msg} at line {problem.lineno}, column {problem.colno}",
            hint="the file may be cut off; make it again or restore it",
        ) from problem
    except (ValueError, RecursionError) as problem:  # a number of thousands of digits
        raise error(f"{where} cannot be read: {problem}", hint=_ANOTHER) from problem


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that was there before; None where all are different.

    Example:
        >>> first_twice(["a", "b", "a"]), first_twice("abc")
        ('a', None)
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def too_deep(data: bytes, *, most: int = MOST_DEPTH) -> bool:
    """Say whether brackets outside strings nest deeper than ``most``; stops at the first such place."""
    depth = 0
    for found in _TOKEN.finditer(data):
        first = data[found.start()]
        if first == 0x22:  # a string
            continue
        depth += (found.end() - found.start()) * (1 if first in b"[{" else -1)
        if depth > most:
            return True
    return False


def dump(document: Mapping[str, Any], *, where: str, indent: int | None = None) -> str:
    """Return one JSON document as ASCII text with a final newline; numpy numbers and paths become plain ones.

    Raises:
        CircuitError: if it holds NaN, infinity or a value that JSON has not, saying where.
    """
    return json.dumps(plain(document, where), indent=indent, allow_nan=False) + "\n"


def plain(value: Any, where: str) -> Any:
    """Return the value with numpy scalars, arrays, tuples and paths as plain JSON values."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CircuitError(
                f"{where} is {value}; JSON has no such number", hint="leave it out, or use None"
            )
        return float(value)
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), where)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise CircuitError(
        f"{where} is a {type(value).__name__}; JSON holds text, numbers, lists and mappings",
        hint="turn it into text, a number, a list or a mapping first: str(value), array.tolist()",
    )


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise CircuitError(
            f"{where} has the key {key!r}; keys are text", hint=f"use text as the key: {str(key)!r:.60}"
        )
    return key


def check_keys(data: object, required: set[str], optional: set[str], where: str) -> dict[str, Any]:
    """Return ``data`` as an object that has all required keys and no unknown one.

    Raises:
        CircuitError: naming the key and the closest known one.
    """
    if not isinstance(data, dict):
        raise CircuitError(
            f"{where} is {kind(data)}; expected an object", hint='write it as {"name": value, ...}'
        )
    missing = sorted(required - set(data))
    if missing:
        raise CircuitError(f"{where} lacks {missing[0]!r}", hint=f"needed: {', '.join(sorted(required))}")
    wrong = sorted(set(data) - required - optional)
    if wrong:
        close = close_names(wrong[0], sorted(required | optional), n=1)
        raise CircuitError(
            f"{where} has an unknown key {wrong[0]!r}",
            hint=f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(required | optional))}",
        )
    return data


def kind(value: object) -> str:
    """Say what a JSON value is, in words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _neighbours(path: Path) -> str:
    """Files beside a missing one that have a similar name, or what the folder holds."""
    parent = path.parent
    while not parent.is_dir():
        if parent == parent.parent:
            return ""
        path, parent = parent, parent.parent
    names = sorted(_some(parent))
    close = close_names(path.name, names)
    if close:
        return f"did you mean {', '.join(str(parent / name) for name in close)}?"
    there = "this folder" if parent == Path() else str(parent)
    return (
        f"name a file that {there} has: {', '.join(names[:8])}"
        if names
        else f"name another: {there} is empty"
    )


def _some(folder: Path, most: int = 500) -> Iterator[str]:
    try:
        for count, entry in enumerate(os.scandir(folder)):
            if count >= most:
                return
            if not entry.name.startswith("."):
                yield entry.name
    except OSError:
        return
