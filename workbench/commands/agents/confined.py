"""Paths that a program gives are kept inside one folder; no option may run code or leave it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.core.command import Command, kinds_of, options_of
from workbench.core.errors import OptionError

BUILT_IN = re.compile(r"(zoo|published):[A-Za-z0-9][A-Za-z0-9_.-]*")
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")
# Options whose value is text that a model reads, or an address; a slash in it is no path.
WORDS = {"text", "prompt", "answers", "edge", "node", "receiver", "sender", "head", "heads"}
# Options that run code of somebody else, open a window, or use machines besides this one.
NEVER = {"trust_code", "trust_remote_code", "open_page", "ray", "workers", "docs", "serving", "revision"}
HINT = "workbench mcp --root FOLDER says which folder tools may read and write"


def inside(root: Path, path: str | Path) -> Path:
    """Return a path as it was given, if it ends inside the folder, links followed.

    Raises:
        OptionError: if it does not.

    Example:
        >>> inside(Path("."), "runs/one")
        PosixPath('runs/one')
    """
    given = Path(path).expanduser()
    whole = (root / given).resolve()
    if not whole.is_relative_to(root.resolve()):
        raise OptionError(f"{path} is outside the folder that tools may use", hint=HINT)
    return Path(path)


def check_values(form: type[Command], given: Mapping[str, Any], root: Path, *, hub: bool = False) -> None:
    """Do nothing if no value leaves the folder, names code, or asks for the network.

    Args:
        hub: Whether names of Hub models may be asked for.

    Raises:
        OptionError: for the first that does.
    """
    known = {option.name for option in options_of(form)}
    for name, value in given.items():
        if name == "model":
            _check_model(str(value), root, hub)
        elif name == "metric" and isinstance(value, str) and ":" in value:
            raise OptionError(
                f"{value!r} would run a file", hint="a person types it: --metric file.py:function"
            )
        elif name not in WORDS:
            paths = name in ("out", "root") or (name in known and Path in kinds_of(form, name))
            for text in _texts(value):
                _check_text(text, root, is_path=paths)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _check_text(text: str, root: Path, *, is_path: bool) -> None:
    """A path, or a text with the look of one, also behind ``name=``."""
    if BUILT_IN.fullmatch(text):
        return
    if text.startswith(("zoo:", "published:")):
        raise OptionError(f"{text!r} names nothing that is built in", hint="zoo:ioi, published:ioi")
    for part in {text, text.partition("=")[2]}:
        if is_path or "/" in part or "\\" in part or part.startswith("~") or ".." in part:
            inside(root, part)


def _check_model(model: str, root: Path, hub: bool) -> None:
    if BUILT_IN.fullmatch(model):
        return
    if (root / model).exists():
        inside(root, model)
    elif not (hub and HUB_ID.fullmatch(model)):
        raise OptionError(
            f"{model!r} is no built-in model and no folder here",
            hint="model_list has the built-in ones; workbench mcp --hub lets Hub models be asked for",
        )
