"""How large a picture may be."""

from __future__ import annotations

from workbench.core.bounds import in_words
from workbench.core.errors import TaskError

MOST_BYTES = 100_000_000
"""Largest picture in memory, and largest file that is read."""


def refuse_larger(n_bytes: int, source: str, what: str) -> None:
    """Do nothing if a picture is small enough to be unpacked.

    Raises:
        TaskError: saying what it would unpack to.
    """
    if n_bytes > MOST_BYTES:
        raise TaskError(
            f"picture {source!r:.200} unpacks to {in_words(n_bytes)} ({what}); at most {in_words(MOST_BYTES)} is read",
            hint="make the picture smaller",
        )
