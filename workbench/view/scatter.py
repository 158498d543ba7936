"""Points of two measured quantities, kinds told apart by colour and mark, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.core.errors import OptionError
from workbench.view.chart import Axis, Frame, color, path, words
from workbench.view.text import number

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
    """Return a self-contained SVG of points ``(x, y, name)`` by kind; both axes have one scale, so both have one
    unit.

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
        raise OptionError(
            "there are no finite points to draw", hint="give at least one point with finite x and y"
        )
    x, y = (Axis.of(values, label, room=0.06) for label in (x_label, y_label))
    frame = Frame(size=(width, height), x=x, y=y, title=title, names=list(clean))
    parts = [_line(frame, diagonal)] if diagonal else []
    for i, rows in enumerate(clean.values()):
        dots = [
            frame.dot(i, x, y, f"{name}: {x_label} {number(x)}, {y_label} {number(y)}") for x, y, name in rows
        ]
        parts.append(f'<g fill="{color(i)}" fill-opacity=".85" stroke="none">{"".join(dots)}</g>')
    return frame.svg("scatter", parts)


def _line(frame: Frame, name: str) -> str:
    """The line on which both quantities are equal."""
    low, high = frame.x.low, frame.x.high
    named = words(name, frame.to_x(high) - 6, frame.to_y(high) + 14, at="end", kind="s")
    return path(f"M{frame.point(low, low)}L{frame.point(high, high)}", "r") + named
