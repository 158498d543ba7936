"""Named amounts with their intervals, one a line, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workbench.core.errors import OptionError
from workbench.view.chart import Axis, Frame, fitted, heading, text_width, tooltip, words
from workbench.view.text import number, shorten

ROW, RIGHT, MOST = 19, 130, 44  # MOST: characters of a name
Bar = tuple[str, float, float, float, str]


def bars_svg(bars: Sequence[Bar], *, x_label: str, title: str = "", width: int = 640) -> str:
    """Return a self-contained SVG of bars ``(name, value, low, high, remark)`` from zero, with intervals.

    Raises:
        OptionError: if there is nothing finite to draw.
    """
    drawn = [bar for bar in bars if math.isfinite(bar[1])]
    if not drawn:
        raise OptionError(
            "there are no finite bars to draw", hint="give at least one bar with a finite value"
        )
    above = heading(title, width)[1] if title else 18.0
    frame = Frame(
        size=(width, above + ROW * len(drawn) + 50),
        x=Axis.of([0.0, *(v for bar in drawn for v in bar[1:4])], x_label),
        title=title,
        left=min(width / 2, max(150.0, 18 + max(text_width(shorten(bar[0], MOST)) for bar in drawn))),
        right=RIGHT,
    )
    return frame.svg("bars", [_bar(bar, above + ROW * (i + 0.5), frame) for i, bar in enumerate(drawn)])


def _bar(bar: Bar, y: float, frame: Frame) -> str:
    name, value, low, high, remark = bar
    color = "#256bad" if value >= 0 else "#cd631a"
    (start, _, end, _), to_x = frame.box, frame.to_x
    left, right = sorted((to_x(0.0), to_x(value)))
    whisker, around = "", "no interval"
    if math.isfinite(low) and math.isfinite(high):
        whisker = f'<path stroke="currentColor" d="M{to_x(low):.1f} {y:.1f}H{to_x(high):.1f}"/>'
        around = f"95 % {number(low)} to {number(high)}"
    return (
        f"<g>{words(fitted(name, start - 12), start - 6, y + 4, at='end')}"
        f'<rect x="{left:.1f}" y="{y - 6:.1f}" width="{max(right - left, 0.8):.1f}" height="12" fill="{color}"/>'
        f"{whisker}{words(fitted(remark, RIGHT - 10), end + 8, y + 4, kind='s')}"
        f"{tooltip(f'{name}: {number(value)}, {around}')}</g>"
    )
