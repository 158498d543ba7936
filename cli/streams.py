"""Standard streams made fit: all three are open, every character can be printed, a full disk behind one is said."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from contextlib import suppress

_HANDLER = "workbench-readable"
# What we print that terminals without UTF-8 lack; anything else becomes an escape such as \xe9.
_PLAIN = {
    **{"−": "-", "–": "-", "—": "-", "·": ".", "…": "...", "×": "x", "→": "->", "←": "<-", "±": "+/-"},
    **{
        "≥": ">=",
        "≤": "<=",
        "≠": "!=",
        "≈": "~",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "•": "*",
        "✓": "ok",
    },
    **{"│": "|", "┃": "|", "║": "|", "\u00a0": " ", "\u202f": " ", "\u2009": " "},
}


class StreamError(Exception):
    """Standard output cannot take what is printed."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def readable(character: str) -> str:
    """Return a character in ASCII: what it looks like, or its escape.

    Example:
        >>> "".join(map(readable, "−3 ± é ─"))
        '-3 +/- \\\\xe9 -'
    """
    if character.isascii():
        return character
    if "\u2500" <= character <= "\u257f":  # lines of tables
        return _PLAIN.get(character, "-")
    if "\u2580" <= character <= "\u259f":  # blocks of bars
        return "#"
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")


def _replaced(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    return "".join(map(readable, problem.object[problem.start : problem.end])), problem.end


def prepare() -> None:
    """Open what is closed, and let no character stop a message.

    Raises:
        StreamError: if standard output is closed: the result could not be shown.
    """
    was_closed = sys.stdout is None
    for number in range(3):  # the next file that is opened must not become a standard stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)
    if was_closed:
        raise StreamError(
            "standard output is closed, so no result can be shown", hint="> /dev/null throws it away"
        )


def put(text: str) -> None:
    """Print on standard output.

    Raises:
        StreamError: if it cannot take it: the disk is full, for example.
    """
    with _explained():
        sys.stdout.write(text)


def put_file(text: str) -> None:
    """Print the text of a file: UTF-8 whatever the terminal, so that what is piped is what would be written."""
    with _explained():
        if not hasattr(sys.stdout, "buffer"):  # text that somebody gathers, in a notebook
            sys.stdout.write(text)
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8"))


def flush() -> None:
    """Bring out what was printed; later, as the interpreter ends, nobody would be told of a full disk.

    Raises:
        StreamError: if it cannot be brought out.
    """
    with _explained():
        sys.stdout.flush()


def give_up() -> None:
    """Send what is still to be printed nowhere."""
    with suppress(OSError, ValueError):  # a stream without a file of its own, in a test or a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _explained:
    """Errors of standard output, said as such; a reader that has gone away stays a BrokenPipeError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, OSError) and problem.errno != errno.EPIPE:
            give_up()
            raise StreamError(
                f"standard output cannot be written: {problem.strerror}",
                hint="send it somewhere else: > FILE",
            ) from problem
