"""Named amounts with their intervals, one a line, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workbench.core.errors import OptionError
from workbench.view.curve import axis_range, round_ticks
from workbench.view.heatmap import FONT, text_width
from workbench.view.text import escape, number, shorten

LINE, RIGHT, MOST = 19, 130, 44  # MOST: characters of a name
Bar = tuple[str, float, float, float, str]


def bars_svg(bars: Sequence[Bar], *, x_label: str, title: str = "", width: int = 640) -> str:
    """A self-contained SVG of bars ``(name, value, low, high, remark)`` from zero, with intervals.

    Raises:
        OptionError: if there is nothing finite to draw.
    """
    drawn = [bar for bar in bars if math.isfinite(bar[1])]
    if not drawn:
        raise OptionError("there are no finite bars to draw")
    top = 34 if title else 10
    height = top + LINE * len(drawn) + 44
    left = max(150.0, 18 + max(text_width(shorten(bar[0], MOST)) for bar in drawn))
    low, high = axis_range([0.0, *(v for bar in drawn for v in bar[1:4])])

    def to_x(x: float) -> float:
        return left + (width - left - RIGHT) * (x - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wb-bars" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="{FONT}" font-size="11" '
        f'style="max-width:100%;height:auto"><title>{escape(title or x_label)}</title>'
        "<style>.wb-bars text{fill:currentColor}.wb-bars .t{font-size:14px;font-weight:600}"
        ".wb-bars .g{stroke:currentColor;stroke-opacity:.16}.wb-bars .e{stroke:currentColor}</style>"
    ]
    if title:
        parts.append(f'<text class="t" x="12" y="20">{escape(shorten(title, 90))}</text>')
    bottom = top + LINE * len(drawn)
    for x, text in round_ticks(low, high):
        parts.append(f'<path class="g" d="M{to_x(x):.1f} {top}V{bottom}"/>')
        parts.append(f'<text x="{to_x(x):.1f}" y="{bottom + 14}" text-anchor="middle">{text}</text>')
    for i, bar in enumerate(drawn):
        parts.append(_bar(bar, top + LINE * i + LINE / 2, to_x, width, left))
    middle = (left + width - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom + 32}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join([*parts, "</svg>"])


def _bar(bar: Bar, y: float, to_x, width: int, start: float) -> str:
    name, value, low, high, remark = bar
    color = "#256bad" if value >= 0 else "#cd631a"
    left, right = sorted((to_x(0.0), to_x(value)))
    whisker = ""
    if math.isfinite(low) and math.isfinite(high):
        whisker = f'<path class="e" d="M{to_x(low):.1f} {y:.1f}H{to_x(high):.1f}"/>'
    tip = escape(f"{name}: {number(value)}, 95 % {number(low)} to {number(high)}")
    return (
        f'<g><text x="{start - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{escape(shorten(name, MOST))}</text>'
        f'<rect x="{left:.1f}" y="{y - 6:.1f}" width="{max(right - left, 0.8):.1f}" height="12" fill="{color}"/>'
        f'{whisker}<text x="{width - RIGHT + 8}" y="{y + 4:.1f}" opacity=".7">{escape(shorten(remark, 20))}</text>'
        f"<title>{tip}</title></g>"
    )
