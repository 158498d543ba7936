"""The frame of every HTML page: one file, no network, a security policy that names its scripts by hash."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from workbench.view.text import escape


@cache
def asset(name: str) -> str:
    """Return the text of a file in ``view/assets``."""
    return (files("workbench.view") / "assets" / name).read_text(encoding="utf-8")


def frame(*, title: str, body: str, body_class: str = "", scripts: tuple[str, ...] = ()) -> str:
    """Return a whole page. Nothing is fetched and only these scripts run, whatever the body holds.

    ``body`` is markup in which every foreign text is escaped already; ``title`` is escaped here.
    """
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
