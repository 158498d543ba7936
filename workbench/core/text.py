"""Text from files and models made safe to show: control characters visible, markup without effect."""

from __future__ import annotations

import html
import re
import unicodedata
from pathlib import Path

_TAGS = re.compile("[\U000e0000-\U000e007f]")
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """Return the text with control, bidirectional-override, invisible and unpaired characters written as escapes.

    A prompt cannot then move the cursor, change the title or the order of what is read. Tabs and, unless
    ``keep_newlines``, line ends are escaped too.

    Example:
        >>> printable("red\\x1b[31m")
        'red\\\\x1b[31m'
    """
    return "".join(c if _is_plain(c) or (keep_newlines and c == "\n") else _escape(c) for c in text)


def _is_plain(character: str) -> bool:
    if character.isascii():
        return " " <= character <= "~"
    if character in _BIDI or _TAGS.match(character):
        return False
    # Cc control, Cs surrogate, Zl and Zp line separators; Cf has zero-width joiners that scripts and emoji
    # need, and the byte-order mark (0xFEFF), which nothing shown needs
    code = ord(character)
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF or code == 0xFEFF:  # no characters; illegal in XML
        return False
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def _escape(character: str) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    if character in known:
        return known[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape(text: object) -> str:
    """Return text for HTML, SVG and XML, as content or quoted attribute: printable, then ``& < > " '`` escaped."""
    return html.escape(printable(str(text), keep_newlines=True), quote=True)


def folder_name(text: str) -> str:
    """Return a name that is safe as one folder on any system.

    Example:
        >>> folder_name("zoo:ioi"), folder_name("models/my model")
        ('zoo-ioi', 'my-model')
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(text).name if "/" in text or "\\" in text else text)
    return name.strip("-._")[:80] or "unnamed"
