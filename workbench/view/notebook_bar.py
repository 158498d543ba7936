"""A bar below the cell of a notebook that says how far long work is; it goes when the work is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

AFTER, BETWEEN = 1.0, 0.2  # seconds: short work shows nothing, and no more often than this is drawn


class NotebookBar:
    """Told how far work is; draws itself with IPython's display, in place of what it drew before.

    Args:
        display: IPython's module ``display``.
    """

    def __init__(self, display: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._display, self._clock = display, clock
        self._begun = self._drawn = clock()
        self._handle: Any = None
        self._said = ""
        self._first: tuple[float, int] | None = None  # when it was told first, and of how much

    def __call__(self, done: int, total: int, what: str = "") -> None:
        now = self._clock()
        if done >= total:
            self._end()
            return
        self._said = f"{done} of {total}"
        since, before = self._first = self._first or (now, done)
        if now - self._begun < AFTER or (self._handle is not None and now - self._drawn < BETWEEN):
            return
        left = (now - since) * (total - done) / (done - before) if done > before else None
        self._drawn = now
        self._show(bar_html(done, total, what, left=left))

    def stopped(self, *, kept: bool) -> None:
        """Say that the work was interrupted, where, and whether the same call goes on from there."""
        rest = "; what is finished is kept, and the same call goes on from there" if kept else ""
        if self._said:
            self._show(f"<p>interrupted after {escape(self._said)} parts{rest}</p>")

    def _end(self) -> None:
        """Leave nothing behind."""
        if self._handle is not None:
            self._handle.update(self._display.HTML(""))
            self._handle = None
        self._begun, self._said, self._first = self._clock(), "", None

    def _show(self, html: str) -> None:
        drawn = self._display.HTML(html)
        if self._handle is None:
            self._handle = self._display.display(drawn, display_id=True)
        else:
            self._handle.update(drawn)


def bar_html(done: int, total: int, what: str, *, left: float | None) -> str:
    """Return a bar with the parts that are done, what is being done, and how long the rest takes at this rate.

    Example:
        >>> "3 of 4" in bar_html(3, 4, "layer 2", left=5.0) and "5 s left" in bar_html(3, 4, "layer 2", left=5.0)
        True
    """
    soon = "" if left is None else f", about {max(1, round(left))} s left"
    return (
        f'<div role="status"><progress value="{done}" max="{total}"></progress> '
        f"{done} of {total}{': ' if what else ''}{escape(what)}{soon}</div>"
    )
