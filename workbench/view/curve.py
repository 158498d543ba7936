"""Curves of a measured quantity over sizes, several series in one SVG with points, errors and a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.core.errors import OptionError, ShapeError
from workbench.view.chart import Axis, Frame, color, dash
from workbench.view.text import number

Series = Mapping[str, Sequence[tuple[float, ...]]]


def curve_svg(
    series: Series,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    reference: Mapping[str, float] | None = None,
    width: int = 640,
    height: int = 380,
) -> str:
    """Return a self-contained SVG of curves, told apart by colour, dash and mark.

    Args:
        series: Name -> points ``(x, y)``, ``(x, y, error)`` or ``(x, y, low, high)``; an error is drawn as a bar
            to both sides, low and high as a band. Points with a value that is not finite are left out.
        log_x: Logarithmic x axis; points at x <= 0 are put at the left edge and marked "0".
        reference: Name -> y of a horizontal line, for example ``{"full model": 1.0}``.

    Raises:
        ShapeError: if a point has other than two to four numbers.
        OptionError: if there is nothing finite to draw.
    """
    clean = {name: _points(name, points) for name, points in series.items()}
    xs = [p[0] for points in clean.values() for p in points]
    ys = [v for points in clean.values() for p in points for v in p[1:]]
    if not xs:
        raise OptionError(
            "the curves have no finite points to draw", hint="give at least one point with finite x and y"
        )
    lines = dict(reference or {})
    frame = Frame(
        size=(width, height),
        x=Axis.of(xs, x_label, log=log_x),
        y=Axis.of([*ys, *lines.values()], y_label, room=0.06),
        title=title,
        names=list(clean),
    )
    parts = [frame.level(name, y) for name, y in lines.items()]
    for i, (name, points) in enumerate(clean.items()):
        banded = any(len(point) == 4 for point in series[name])
        parts.append(_curve(i, name, points, banded, frame))
    return frame.svg("curve", parts)


Point = tuple[float, float, float, float]  # x, y, low, high


def _points(name: str, points: Sequence[tuple[float, ...]]) -> list[Point]:
    """Points with bounds, which are ``y`` itself where there are none."""
    found = []
    for point in points:
        if len(point) not in (2, 3, 4):
            raise ShapeError(
                f"a point of {name!r} has {len(point)} numbers; expected (x, y), (x, y, error) or (x, y, low, high)",
                hint="write each point as (x, y)",
            )
        x, y = float(point[0]), float(point[1])
        low, high = (y, y) if len(point) == 2 else _bounds(y, point[2:])
        if math.isfinite(x) and math.isfinite(y):
            found.append((x, y, low, high))
    return sorted(found)


def _bounds(y: float, given: Sequence[float | None]) -> tuple[float, float]:
    values = [math.nan if v is None else float(v) for v in given]
    if not all(map(math.isfinite, values)):
        return y, y
    return (y - abs(values[0]), y + abs(values[0])) if len(values) == 1 else (values[0], values[1])


def _curve(i: int, name: str, points: Sequence[Point], banded: bool, frame: Frame) -> str:
    parts = [f'<g fill="{color(i)}" stroke="none">']
    if banded:
        around = [frame.point(x, high) for x, _, _, high in points]
        around += [frame.point(x, low) for x, _, low, _ in reversed(points)]
        parts.append(f'<polygon class="band" points="{" ".join(around)}" fill-opacity=".16"/>')
    line = " ".join(frame.point(x, y) for x, y, _, _ in points)
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{color(i)}" stroke-width="2"{dash(i)} stroke-linejoin="round"/>'
    )
    for x, y, low, high in points:
        if high > low and not banded:
            bar = f"M{frame.point(x, low)}L{frame.point(x, high)}"
            parts.append(f'<path d="{bar}" stroke="{color(i)}" stroke-width="1.4"/>')
        said = f"{name}: {frame.x.label} {number(x)}, {frame.upright.label} {number(y)}"
        parts.append(frame.dot(i, x, y, said + _spread(y, low, high, banded)))
    return "".join([*parts, "</g>"])


def _spread(y: float, low: float, high: float, banded: bool) -> str:
    if not high > low:
        return ""
    return f", 95 % {number(low)} to {number(high)}" if banded else f" ± {number(high - y)}"
