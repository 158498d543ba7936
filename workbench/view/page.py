"""The frame of every HTML page: one file, no network, a security policy that names its scripts by hash."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import Any

from workbench.view.text import escape

# The line to type of the command that is running: its pages are made deep below it.
_LINE: ContextVar[Callable[[], str] | None] = ContextVar("line", default=None)


@contextmanager
def repeated_by(line: Callable[[], str]) -> Iterator[None]:
    """Let every page that is made inside the block show the line to type that repeats it, with a button to copy it.

    Args:
        line: Is called when a page is made.
    """
    before = _LINE.set(line)
    try:
        yield
    finally:
        _LINE.reset(before)


@cache
def asset(name: str) -> str:
    """Return the text of a file in ``view/assets``."""
    return (files("workbench.view") / "assets" / name).read_text(encoding="utf-8")


def frame(
    *,
    title: str,
    body: str,
    body_class: str = "",
    scripts: tuple[str, ...] = (),
    has_command: bool = False,
) -> str:
    """Return a whole page. Nothing is fetched and only these scripts run, whatever the body holds.

    Args:
        title: Is escaped here.
        body: Markup in which every foreign text is escaped already. The line that repeats the page (`repeated_by`)
            comes under its first header.
        has_command: The body has such a line of its own.
    """
    line = None if has_command else _LINE.get()
    if line is not None:
        head, end, rest = body.partition("</header>")
        body = f"{head}{end}{_command_html(line())}{rest}" if end else f"{_command_html(line())}{body}"
    if line is not None or has_command:
        scripts = (*scripts, asset("copy.js"))
    if "wb-wide" in body:
        scripts = (*scripts, asset("captions.js"))
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    run = "".join(f"<script>{text}</script>\n" for text in scripts)
    return (
        '<!doctype html>\n<html lang="en" data-theme="light">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n"
        f'<body class="{escape(body_class)}">\n{body}\n{run}</body>\n</html>\n'
    )


def _command_html(line: str) -> str:
    return (
        '<div class="repeat"><span class="soft">The same by command</span>'
        f'<code id="command">{escape(line)}</code><button type="button" id="copy">Copy</button></div>'
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def embedded_json(data: Any) -> str:
    """JSON that can stand inside ``<script type="application/json">``, whatever text it holds.

    Only ASCII is written, and ``< > &`` are escaped too, so no text can end the element, open a comment or
    be taken for an entity.

    Example:
        >>> embedded_json("</script><!--")
        '"\\\\u003c/script\\\\u003e\\\\u003c!--"'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
