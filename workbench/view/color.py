"""One colour scale for signed numbers everywhere: blue supports, orange opposes, nothing is the colour of the page.

Amounts, which cannot be negative, have greens of their own, so that nobody reads "supports" into them. Blue and orange
keep apart for all common kinds of colour blindness; sign is never told by colour alone. On a dark page large numbers
are bright: every colour has a twin there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]
ZERO: RGB = (247, 247, 245)
POSITIVE: tuple[RGB, ...] = (ZERO, (190, 214, 235), (107, 163, 211), (37, 107, 173), (10, 58, 110))
NEGATIVE: tuple[RGB, ...] = (ZERO, (249, 213, 178), (238, 158, 92), (205, 99, 26), (127, 52, 4))
AMOUNT: tuple[RGB, ...] = (ZERO, (190, 222, 200), (104, 178, 141), (33, 122, 88), (5, 68, 49))
MISSING: RGB = (222, 222, 222)
DARK_ZERO: RGB = (39, 42, 46)
DARK_POSITIVE: tuple[RGB, ...] = (DARK_ZERO, (36, 72, 108), (45, 113, 176), (98, 166, 224), (178, 217, 250))
DARK_NEGATIVE: tuple[RGB, ...] = (DARK_ZERO, (98, 60, 28), (163, 93, 32), (225, 146, 74), (252, 208, 164))
DARK_AMOUNT: tuple[RGB, ...] = (DARK_ZERO, (28, 79, 60), (42, 124, 92), (101, 179, 142), (184, 228, 202))


@dataclass(frozen=True)
class ColorScale:
    """Give values their colours: from ``low`` to ``high``; ``low`` is ``-high``, or 0 for amounts."""

    low: float
    high: float

    @classmethod
    def around_zero(cls, values: np.ndarray) -> ColorScale:
        """Return the scale of signed values, equally far on both sides of zero."""
        top = limit(values)
        return cls(-top, top)

    @classmethod
    def of_amounts(cls, values: np.ndarray, *, high: float | None = None) -> ColorScale:
        """Return the scale of values that cannot be negative; values below zero make it a signed one.

        Example:
            >>> ColorScale.of_amounts(np.array([0.25, 0.5])), ColorScale.of_amounts(np.array([0.2]), high=1.0).high
            (ColorScale(low=0.0, high=0.5), 1.0)
        """
        finite = values[np.isfinite(values)]
        if finite.size and float(finite.min()) < 0:
            return cls.around_zero(values)
        return cls(0.0, limit(values) if high is None else max(high, limit(values) if finite.size else 0.0))

    @property
    def stops(self) -> tuple[float, ...]:
        """The values that a legend names, from the top."""
        return (self.high, 0.0, self.low) if self.low < 0 else (self.high, self.high / 2, 0.0)

    def at(self, part: float) -> float:
        """Return the value at a part of the way from ``high`` (0) down to ``low`` (1)."""
        return self.high + part * (self.low - self.high)

    def color(self, value: float) -> RGB:
        """Return the colour of a value on a light page; what is out of range counts as the end."""
        return self._of(value, AMOUNT, POSITIVE, NEGATIVE)

    def dark(self, value: float) -> RGB:
        """Return the colour of a value on a dark page."""
        return self._of(value, DARK_AMOUNT, DARK_POSITIVE, DARK_NEGATIVE)

    def _of(self, value: float, amount: tuple[RGB, ...], more: tuple[RGB, ...], less: tuple[RGB, ...]) -> RGB:
        share = value / self.high if math.isfinite(value) else math.copysign(1.0, value)
        return _between(amount if self.low == 0 else more if share >= 0 else less, abs(share))


def signed(share: float) -> RGB:
    """Return the colour of a value between -1 (opposes) and 1 (supports); out of range counts as the end."""
    return _between(POSITIVE if share >= 0 else NEGATIVE, abs(share))


def _between(stops: tuple[RGB, ...], share: float) -> RGB:
    where = min(share, 1.0) * (len(stops) - 1)
    below = min(int(where), len(stops) - 2)
    part = where - below
    red, green, blue = (
        round(a + (b - a) * part) for a, b in zip(stops[below], stops[below + 1], strict=True)
    )
    return red, green, blue


def css(color: RGB) -> str:
    """Return ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def fill(light: RGB, dark: RGB) -> str:
    """Return attributes of an SVG shape: its colour on light and on dark pages; old browsers take the first."""
    return f'fill="{css(light)}" style="fill:light-dark({css(light)},{css(dark)})"'


def ink(color: RGB) -> str:
    """Return black or white, whichever reads better on this colour (relative luminance of WCAG 2)."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if luminance < 0.179 else "#000000"  # both have a contrast of 4.58 there


def limit(values: np.ndarray) -> float:
    """Return the end of the scale: the largest absolute finite value, or 1 when there is none or all are zero."""
    finite = np.abs(values[np.isfinite(values)])
    top = float(finite.max()) if finite.size else 0.0
    return top if top > 0 and math.isfinite(top) else 1.0
