"""Text as it is shown: safe (`workbench/core/text.py`), short, and numbers for people."""

from __future__ import annotations

from workbench.core.text import escape, printable


def shorten(text: str, most: int) -> str:
    """Return the text, or its beginning and an ellipsis, at most ``most`` characters in all."""
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def number(value: float | int | None, *, digits: int = 3) -> str:
    """Return a number for people: three significant digits, a true minus sign, a dash for nothing.

    Example:
        >>> number(-0.012345), number(1234567), number(None)
        ('−0.0123', '1,234,567', '–')
    """
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if value == 0:
        return "0"  # also for a zero with a minus sign
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.{digits - 1}e}"
    if "e" in text and abs(value) < 1e6 and abs(value) >= 1e-4:  # 1.23e+03 reads worse than 1,234
        text = f"{value:,.0f}"
    return text.replace("-", "−")


__all__ = ["escape", "number", "printable", "shorten"]
