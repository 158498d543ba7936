"""Curves of a measured quantity over sizes, several series in one SVG with points, errors and a legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from workbench.core.errors import OptionError, ShapeError
from workbench.view.heatmap import FONT
from workbench.view.text import escape, number, shorten

COLORS = ("#256bad", "#cd631a", "#3a8f5c", "#8e5bb5", "#a08a1a", "#c24a6e", "#4a9ba8", "#6b7280")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
MARKS = (
    '<circle r="3.4"/>',
    '<rect x="-3" y="-3" width="6" height="6"/>',
    '<path d="M0-4L4 3H-4Z"/>',
    '<path d="M0-4L4 0L0 4L-4 0Z"/>',
)
LARGEST = 1e300  # of a number on an axis: beyond it differences overflow
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
    """A self-contained SVG of curves, told apart by colour, dash and mark.

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
        raise OptionError("the curves have no finite points to draw")
    ys += list((reference or {}).values())
    box = (64.0, 42.0 if title else 18.0, width - 18.0, height - 50.0 - 18 * math.ceil(len(clean) / 3))
    to_x, x_ticks = _x_axis(xs, box, log_x)
    to_y, y_ticks = _y_axis(ys, box)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wb-curve" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="{FONT}" font-size="11" '
        f'style="max-width:100%;height:auto"><title>{escape(title or y_label)}</title>'
        "<style>.wb-curve text{fill:currentColor}.wb-curve .t{font-size:14px;font-weight:600}"
        ".wb-curve .g{stroke:currentColor;stroke-opacity:.14}.wb-curve .r{stroke:currentColor;"
        "stroke-opacity:.6;stroke-dasharray:3 3}</style>"
    ]
    if title:
        parts.append(f'<text class="t" x="12" y="22">{escape(shorten(title, 100))}</text>')
    parts += axes(x_ticks, y_ticks, to_x, to_y, box, x_label, y_label)
    for name, y in (reference or {}).items():
        parts.append(
            f'<path class="r" d="M{box[0]:.0f} {to_y(y):.1f}H{box[2]:.0f}"/><text x="{box[2] - 4:.0f}" '
            f'y="{to_y(y) - 4:.1f}" text-anchor="end" opacity=".75">{escape(name)}</text>'
        )
    for i, (name, points) in enumerate(clean.items()):
        banded = any(len(point) == 4 for point in series[name])
        parts.append(_curve(i, name, points, banded, to_x, to_y, x_label, y_label))
        parts.append(entry(i, name, box, height, len(clean)))
    return "".join([*parts, "</svg>"])


Point = tuple[float, float, float, float]  # x, y, low, high


def _points(name: str, points: Sequence[tuple[float, ...]]) -> list[Point]:
    """Points with bounds, which are ``y`` itself where there are none."""
    found = []
    for point in points:
        if len(point) not in (2, 3, 4):
            raise ShapeError(
                f"a point of {name!r} has {len(point)} numbers; expected (x, y), (x, y, error) or (x, y, low, high)"
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


def _x_axis(xs: Sequence[float], box: tuple[float, ...], log: bool):
    """The function from x to pixels, and ticks (x, label)."""
    left, right = box[0] + 8, box[2] - 8
    if not log:
        low, high = axis_range(xs)
        return (lambda x: left + (right - left) * (x - low) / (high - low)), round_ticks(low, high)
    axis_range(xs)  # refuses what is too large
    positive = [max(x, 1e-290) for x in xs if x > 0] or [1.0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    high = high if high > low else low + 1
    inset = left + (30 if min(xs) <= 0 else 0)
    ticks = [
        (10.0**k * m, number(10.0**k * m))
        for k in range(math.floor(low), math.ceil(high) + 1)
        for m in (1, 2, 5)
    ]
    ticks = [t for t in ticks if low - 1e-9 <= math.log10(t[0]) <= high + 1e-9]
    if len(ticks) > 9:
        ticks = [t for t in ticks if abs(math.log10(t[0]) % 1) < 1e-9 or len(ticks) <= 9]
    if min(xs) <= 0:
        ticks.insert(0, (0.0, "0"))

    def to_x(x: float) -> float:
        return left if x <= 0 else inset + (right - inset) * (math.log10(max(x, 1e-290)) - low) / (high - low)

    return to_x, ticks


def _y_axis(ys: Sequence[float], box: tuple[float, ...]):
    low, high = axis_range(ys)
    room = 0.06 * (high - low)
    low, high = low - room, high + room
    return (lambda y: box[3] - (box[3] - box[1]) * (y - low) / (high - low)), round_ticks(low, high)


def axis_range(values: Iterable[float]) -> tuple[float, float]:
    """Least and largest of the finite values, apart even where all are equal.

    Raises:
        OptionError: for a value whose difference to another would overflow.
    """
    finite = [v for v in values if math.isfinite(v)]
    low, high = min(finite), max(finite)
    size = max(abs(low), abs(high))
    if size > LARGEST:
        raise OptionError(f"{size:.3g} is too large for an axis; numbers up to {LARGEST:g} are drawn")
    if high - low > max(1e-12 * size, 1e-290):  # less than that is rounding, and cannot be divided by
        return low, high
    half = 0.5 if size < 1e9 else 1e-6 * size
    return low - half, high + half


def round_ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Round numbers between low and high, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    found = []
    while first * step <= high + 1e-9 * step:
        value = first * step
        found.append((value, f"{value:,.{min(decimals, 8)}f}".replace("-", "−")))
        first += 1
    return found


def axes(x_ticks, y_ticks, to_x, to_y, box: tuple[float, ...], x_label: str, y_label: str) -> list[str]:
    parts = []
    for y, text in y_ticks:
        parts.append(f'<path class="g" d="M{box[0]:.0f} {to_y(y):.1f}H{box[2]:.0f}"/>')
        parts.append(f'<text x="{box[0] - 6:.0f}" y="{to_y(y) + 4:.1f}" text-anchor="end">{text}</text>')
    for x, text in x_ticks:
        parts.append(f'<path class="g" d="M{to_x(x):.1f} {box[1]:.0f}V{box[3]:.0f}"/>')
        parts.append(f'<text x="{to_x(x):.1f}" y="{box[3] + 15:.0f}" text-anchor="middle">{text}</text>')
    middle = (box[0] + box[2]) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{box[3] + 32:.0f}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(15 {(box[1] + box[3]) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _curve(i: int, name: str, points, banded: bool, to_x, to_y, x_label: str, y_label: str) -> str:
    color, dash = COLORS[i % len(COLORS)], _DASHES[i % len(_DASHES)]
    line = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y, _, _ in points)
    parts = [f'<g fill="{color}" stroke="none">']
    if banded:
        above = [f"{to_x(x):.1f},{to_y(high):.1f}" for x, _, _, high in points]
        below = [f"{to_x(x):.1f},{to_y(low):.1f}" for x, _, low, _ in reversed(points)]
        parts.append(f'<polygon class="band" points="{" ".join([*above, *below])}" fill-opacity=".16"/>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" ')
    parts.append(f'stroke-width="2" stroke-dasharray="{dash}" stroke-linejoin="round"/>')
    for x, y, low, high in points:
        at = f"{to_x(x):.1f} {to_y(y):.1f}"
        if high > low and not banded:
            parts.append(
                f'<path d="M{to_x(x):.1f} {to_y(low):.1f}V{to_y(high):.1f}" stroke="{color}" '
                'stroke-width="1.4"/>'
            )
        tip = escape(f"{name}: {x_label} {number(x)}, {y_label} {number(y)}{_spread(y, low, high, banded)}")
        parts.append(f'<g transform="translate({at})">{MARKS[i % len(MARKS)]}<title>{tip}</title></g>')
    return "".join([*parts, "</g>"])


def _spread(y: float, low: float, high: float, banded: bool) -> str:
    if not high > low:
        return ""
    return f", 95 % {number(low)} to {number(high)}" if banded else f" ± {number(high - y)}"


def entry(i: int, name: str, box: tuple[float, ...], height: int, n: int) -> str:
    rows = math.ceil(n / 3)
    x = box[0] + (i % 3) * (box[2] - box[0]) / 3
    y = height - 18 * rows + 18 * (i // 3) + 8
    color, dash = COLORS[i % len(COLORS)], _DASHES[i % len(_DASHES)]
    return (
        f'<path d="M{x:.0f} {y - 4:.0f}h24" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>'
        f'<g fill="{color}" transform="translate({x + 12:.0f} {y - 4:.0f})">{MARKS[i % len(MARKS)]}</g>'
        f'<text x="{x + 30:.0f}" y="{y:.0f}">{escape(shorten(name, 26))}</text>'
    )
