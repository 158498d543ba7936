"""A small chart of a few amounts, each name above its bar: it fits a telephone and stands beside a paragraph."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workbench.core.errors import OptionError
from workbench.view.bars import Bar
from workbench.view.chart import Axis, Place, fitted, svg, tooltip, words, wrapped
from workbench.view.text import number

WIDTH, ROW, BAR, LINE = 320, 38, 13, 14
COLORS = ("var(--positive, #256bad)", "var(--edge-node, #66707c)")


def few_bars_svg(bars: Sequence[Bar], *, unit: str, title: str) -> str:
    """Return a self-contained SVG of bars ``(name, value, low, high, remark)`` from zero; the first is in colour.

    Raises:
        OptionError: if there is nothing finite to draw.

    Example:
        >>> few_bars_svg([("own", 0.5, 0.4, 0.6, "")], unit="share", title="own").count("<rect")
        1
    """
    drawn = [bar for bar in bars if math.isfinite(bar[1])]
    if not drawn:
        raise OptionError("there are no finite bars to draw", hint="give at least one finite value")
    ends = [0.0, *(v for bar in drawn for v in bar[1:4] if math.isfinite(v))]
    to_x = Axis.of(ends, "").place(4.0, WIDTH - 52.0)
    parts = [part for i, bar in enumerate(drawn) for part in _bar(i, bar, to_x)]
    low = ROW * len(drawn) + 16
    lines = wrapped(unit, WIDTH, most=2)
    parts += [words(line, 4, low + LINE * i, kind="s") for i, line in enumerate(lines)]
    high = low + 8 + LINE * max(len(lines) - 1, 0)
    zero = to_x(0.0)
    parts.append(f'<path class="g" d="M{zero:.1f} 4V{low - 14}"/>')
    return svg("few-bars", parts, size=(WIDTH, high), title=title)


def _bar(i: int, bar: Bar, to_x: Place) -> list[str]:
    name, value, low, high, _ = bar
    top = i * ROW + 20
    left, right = sorted((to_x(0.0), to_x(value)))
    around, whisker, end = "no interval", "", right
    if math.isfinite(low) and math.isfinite(high):
        around, end = f"95 % {number(low)} to {number(high)}", max(right, to_x(high))
        middle = top + BAR / 2
        whisker = f'<path stroke="currentColor" d="M{to_x(low):.1f} {middle}H{to_x(high):.1f}"/>'
    box = f'x="{left:.1f}" y="{top}" width="{max(right - left, 0.8):.1f}" height="{BAR}"'
    return [
        f'<g>{words(fitted(name, WIDTH - 8), 4, top - 5)}<rect {box} fill="{COLORS[min(i, 1)]}"/>{whisker}',
        f"{words(number(value), end + 6, top + BAR - 2)}{tooltip(f'{name}: {number(value)}, {around}')}</g>",
    ]
