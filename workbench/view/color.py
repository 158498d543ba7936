"""One colour scale for signed numbers everywhere: blue supports, orange opposes, pale is nothing.

Blue and orange keep apart for all common kinds of colour blindness; sign is never told by colour alone.
"""

from __future__ import annotations

import math

import numpy as np

RGB = tuple[int, int, int]
ZERO: RGB = (247, 247, 245)
POSITIVE: tuple[RGB, ...] = (ZERO, (190, 214, 235), (107, 163, 211), (37, 107, 173), (10, 58, 110))
NEGATIVE: tuple[RGB, ...] = (ZERO, (249, 213, 178), (238, 158, 92), (205, 99, 26), (127, 52, 4))
MISSING: RGB = (222, 222, 222)


def signed(share: float) -> RGB:
    """Return the colour of a value between -1 (opposes) and 1 (supports); out of range counts as the end."""
    stops = POSITIVE if share >= 0 else NEGATIVE
    where = min(abs(share), 1.0) * (len(stops) - 1)
    below = min(int(where), len(stops) - 2)
    part = where - below
    red, green, blue = (
        round(a + (b - a) * part) for a, b in zip(stops[below], stops[below + 1], strict=True)
    )
    return red, green, blue


def css(color: RGB) -> str:
    """Return ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


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
