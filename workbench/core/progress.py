"""How long work says how far it is: a function of parts done, parts in all and what is being done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int, str], None]


def silent(*what: Any) -> None:
    """Say nothing."""
