"""What commands print: the result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cli import streams

QUIET = "WORKBENCH_QUIET"
_EMITTED: list[bool] = []  # whether a JSON document is out: there is never a second one


def emit(result: Any, *, as_json: bool) -> None:
    """Print a result: one JSON document with ``as_json``, else what ``workbench.view.terminal`` makes of it.

    ``result`` is a dict, a list, a string, or an object with ``to_dict()``.
    """
    if as_json:
        from workbench.core.json_document import document_of

        text = json.dumps(document_of(result), indent=2, allow_nan=False, ensure_ascii=True) + "\n"
        _EMITTED.append(True)
        streams.put(text)
        return
    if (raw := getattr(result, "raw", None)) is not None:
        streams.put_file(raw)
    else:
        show(result)


def show(result: Any) -> None:
    """Print what a result looks like on a terminal, at once."""
    from workbench.view.terminal import console, render

    made = console()
    with made.capture() as shown:
        made.print(render(result))
    streams.put(shown.get())
    streams.flush()


def has_emitted() -> bool:
    """Say whether the JSON document of this command is out."""
    return bool(_EMITTED)


def begin() -> None:
    """Forget what an earlier command in this process printed."""
    _EMITTED.clear()


def note(message: str) -> None:
    """Say something on stderr, unless quiet."""
    if not os.environ.get(QUIET):
        from workbench.view.terminal import printable

        sys.stderr.write(printable(message, keep_newlines=True) + "\n")


def warn(message: str) -> None:
    """Say something on stderr that must be read, quiet or not."""
    from workbench.view.terminal import printable

    sys.stderr.write(printable(message, keep_newlines=True) + "\n")


def show_warning(otherwise: Callable[..., None]) -> Callable[..., None]:
    """Say what shows Python's warnings: those of changed files and of plug-ins as one line, all others by
    ``otherwise``.
    """
    from workbench.core.errors import ChangedFileWarning, PluginWarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, ChangedFileWarning | PluginWarning):
            warn(f"warning: {message}")
        else:
            otherwise(message, category, *place, **more)

    return show


def complain(message: str) -> None:
    """Say what went wrong on stderr, always; control characters from files are made visible."""
    from workbench.view.terminal import printable

    sys.stderr.write(printable(f"error: {message}", keep_newlines=True) + "\n")


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """A bar on stderr; nothing when stderr is no terminal, with NO_COLOR or when quiet.

    Yields ``advance(done, total, what="")``, which library functions take as ``progress=``.
    """
    if os.environ.get(QUIET):
        yield lambda done, total, what="": None
        return
    from workbench.view.terminal import progress_bar

    with progress_bar(title) as advance:
        yield advance


def use_quiet(quiet: bool) -> None:
    """Make ``note`` and ``progress`` say nothing for the rest of the process."""
    if quiet:
        os.environ[QUIET] = "1"
