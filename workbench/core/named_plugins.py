"""Plug-ins that the person names: a file, or a module. Nothing is ever imported because a saved file names it."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from types import ModuleType

from workbench.core.bounds import exists, expanded, read_bytes
from workbench.core.entry_points import load
from workbench.core.errors import PluginError
from workbench.core.plugins import Named, explained, named_at, note_named, sha256_of

VARIABLE = "WORKBENCH_PLUGINS"
MOST_SOURCE = 10_000_000  # bytes of a file that is a plug-in
_PREFIX = "workbench_plugin_"  # of the module that a file becomes


def use_plugin(text: str) -> Named:
    """Run a plug-in: ``FILE.py``, ``module`` or ``module:name``; what it registers is known from then on.

    A function that ``module:name`` names and that takes nothing is called. One that was used before is not run again.

    Raises:
        PluginError: if there is no such file, module or name, or it cannot be imported.
    """
    path = expanded(text, error=PluginError)
    is_file = path.suffix == ".py" or os.sep in text
    place = str(path.resolve()) if is_file else text
    if (before := named_at(place)) is not None:
        return before
    module = _PREFIX + path.stem if is_file else text.partition(":")[0]
    if is_file:
        _check_file(path, module)
    with explained(f"the plug-in {text}", "docs/extending.md shows what a plug-in looks like"):
        _run_file(path, module) if is_file else _run_name(text)
    _hand_on(text)
    file = getattr(sys.modules[module], "__file__", None) or ""
    found = Named(text=text, module=module, file=file, sha256=sha256_of(Path(file)) if file else "")
    note_named(found, place)
    return found


def use_plugins_of_environment() -> None:
    """Run the plug-ins that the environment variable ``WORKBENCH_PLUGINS`` names, separated by commas."""
    for text in os.environ.get(VARIABLE, "").split(","):
        if text.strip():
            use_plugin(text.strip())


def _hand_on(text: str) -> None:
    """Let processes that this one starts use the same plug-in."""
    before = [word.strip() for word in os.environ.get(VARIABLE, "").split(",") if word.strip()]
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*before, text]))


def _check_file(path: Path, module: str) -> None:
    if not exists(path):
        raise PluginError(f"there is no file {path}", hint="--plugin FILE.py, or --plugin package.module")
    if path.suffix != ".py":
        raise PluginError(f"{path} is not a Python file", hint="--plugin FILE.py, or --plugin package.module")
    if module in sys.modules:
        other = getattr(sys.modules[module], "__file__", "")
        raise PluginError(f"two plug-ins are called {path.name}: {other} too", hint="rename one of them")


def _run_file(path: Path, module: str) -> None:
    """Run a file as a module, from its source and never from compiled code beside it; it may import files beside it."""
    source = read_bytes(path, most_bytes=MOST_SOURCE, error=PluginError)
    made = ModuleType(module)
    made.__file__ = str(path.resolve())
    sys.modules[module] = made  # dataclasses look their module up
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    try:
        exec(compile(source, made.__file__, "exec", dont_inherit=True), vars(made))
    except BaseException:
        del sys.modules[module]
        raise


def _run_name(text: str) -> None:
    """Import a module, and call the function that is named in it, if it takes nothing."""
    found = load(text)
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        found()
