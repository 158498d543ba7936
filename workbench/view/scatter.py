"""Points of two measured quantities, kinds told apart by colour and mark, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.core.errors import OptionError
from workbench.view.curve import COLORS, MARKS, axes, axis_range, entry, round_ticks
from workbench.view.heatmap import FONT
from workbench.view.text import escape, number, shorten

Points = Mapping[str, Sequence[tuple[float, float, str]]]


def scatter_svg(
    points: Points,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    diagonal: str = "",
    width: int = 560,
    height: int = 460,
) -> str:
    """A self-contained SVG of points ``(x, y, name)`` by kind; both axes have one scale, so both have one unit.

    Args:
        diagonal: What a point on the line ``y = x`` is; without it no line is drawn.

    Raises:
        OptionError: if there is nothing finite to draw.
    """
    clean = {
        kind: [p for p in rows if math.isfinite(p[0]) and math.isfinite(p[1])]
        for kind, rows in points.items()
    }
    values = [v for rows in clean.values() for p in rows for v in p[:2]]
    if not values:
        raise OptionError("there are no finite points to draw")
    low, high = axis_range(values)
    room = 0.06 * (high - low) if min(values) < max(values) else 0.0
    low, high = low - room, high + room
    box = (64.0, 42.0 if title else 18.0, width - 18.0, height - 50.0 - 18 * math.ceil(len(clean) / 3))

    def to_x(x: float) -> float:
        return box[0] + (box[2] - box[0]) * (x - low) / (high - low)

    def to_y(y: float) -> float:
        return box[3] - (box[3] - box[1]) * (y - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wb-curve" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="{FONT}" font-size="11" '
        f'style="max-width:100%;height:auto"><title>{escape(title or y_label)}</title>'
        "<style>.wb-curve text{fill:currentColor}.wb-curve .t{font-size:14px;font-weight:600}"
        ".wb-curve .g{stroke:currentColor;stroke-opacity:.14}.wb-curve .r{stroke:currentColor;"
        "stroke-opacity:.6;stroke-dasharray:3 3}</style>"
    ]
    if title:
        parts.append(f'<text class="t" x="12" y="22">{escape(shorten(title, 90))}</text>')
    marks = round_ticks(low, high)
    parts += axes(marks, marks, to_x, to_y, box, x_label, y_label)
    if diagonal:
        parts.append(
            f'<path class="r" d="M{to_x(low):.1f} {to_y(low):.1f}L{to_x(high):.1f} {to_y(high):.1f}"/>'
            f'<text x="{to_x(high) - 6:.0f}" y="{to_y(high) + 14:.0f}" text-anchor="end" opacity=".75">'
            f"{escape(diagonal)}</text>"
        )
    for i, (kind, rows) in enumerate(clean.items()):
        parts.append(f'<g fill="{COLORS[i % len(COLORS)]}" fill-opacity=".85" stroke="none">')
        for x, y, name in rows:
            tip = escape(f"{name}: {x_label} {number(x)}, {y_label} {number(y)}")
            parts.append(
                f'<g transform="translate({to_x(x):.1f} {to_y(y):.1f})">{MARKS[i % len(MARKS)]}<title>{tip}</title></g>'
            )
        parts += ["</g>", entry(i, kind, box, height, len(clean))]
    return "".join([*parts, "</svg>"])
