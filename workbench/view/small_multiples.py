"""Many curves as small panels of one scale: one panel per method, all others in grey behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.core.errors import OptionError
from workbench.view.curve import COLORS, axis_range
from workbench.view.heatmap import FONT
from workbench.view.text import escape, number, shorten

Point = tuple[float, float]
WIDE, HIGH = 190, 150  # of one panel, in pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 34, 30, 8, 24


def panels_svg(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    notes: Mapping[str, str] | None = None,
    log_x: bool = False,
    y_range: tuple[float, float] = (0.0, 1.0),
    reference: Sequence[float] = (),
    behind: bool = True,
    columns: int = 5,
) -> str:
    """A grid of panels on one pair of axes; values beyond ``y_range`` are drawn at its edge.

    Args:
        panels: Panel title -> series name -> points ``(x, y)``.
        notes: Panel title -> a few words beside it, such as the area.
        reference: Heights of dashed lines.
        behind: Draw the curves of all other panels in grey; else each panel has its own series alone, in colours.

    Raises:
        OptionError: if there is nothing finite to draw.
    """
    shown = {name: _finite(series) for name, series in panels.items()}
    shown = {name: series for name, series in shown.items() if series}
    xs = [x for series in shown.values() for points in series.values() for x, _ in points]
    if not xs:
        raise OptionError("the panels have no finite points to draw")
    low, high = _x_range(xs, log_x)
    columns = min(columns, len(shown))
    rows = math.ceil(len(shown) / columns)
    names = list(dict.fromkeys(name for series in shown.values() for name in series))
    legend = 18 * math.ceil(len(names) / 4) + 6 if not behind and len(names) > 1 else 0
    size = (max(WIDE * columns + 26, 720), HIGH * rows + 34 + 22 + legend)

    def at(x: float, y: float) -> str:
        share = ((math.log10(x) if log_x else x) - low) / (high - low)
        y = min(max(y, y_range[0]), y_range[1])
        rise = (y - y_range[0]) / (y_range[1] - y_range[0])
        across = _LEFT + share * (WIDE - _LEFT - _RIGHT)
        return f"{across:.1f} {HIGH - _BOTTOM - rise * (HIGH - _TOP - _BOTTOM):.1f}"

    key = f"wb{abs(hash_of(title)):x}"
    parts = [_head(size, title, key)]
    if behind:
        every = "".join(_line(p, at) for series in shown.values() for p in series.values())
        parts.append(
            f'<defs><path id="{key}" d="{every}" fill="none" stroke="currentColor" '
            'stroke-opacity=".13"/></defs>'
        )
    frame = _frame(low, high, log_x, y_range, reference, at)
    for k, (name, series) in enumerate(shown.items()):
        x, y = 22 + WIDE * (k % columns), 32 + HIGH * (k // columns)
        parts.append(f'<g transform="translate({x} {y})">{frame}')
        parts.append(f'<use href="#{key}"/>' if behind else "")
        parts.append(_panel(name, series, (notes or {}).get(name, ""), names, at, x_label, y_label))
        parts.append("</g>")
    bottom = 32 + HIGH * rows
    parts.append(
        f'<text x="{22 + WIDE * columns / 2:.0f}" y="{bottom + 12}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(12 {32 + HIGH * rows / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    if legend:
        parts += [_entry(i, name, bottom + 30, size[0]) for i, name in enumerate(names)]
    return "".join([*parts, "</svg>"])


def hash_of(text: str) -> int:
    """A number that is the same on every run, to tell pictures of one page apart."""
    import zlib

    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _finite(series: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    kept = {
        name: [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(y)]
        for name, points in series.items()
    }
    return {name: points for name, points in kept.items() if points}


def _x_range(xs: Sequence[float], log: bool) -> Point:
    low, high = min(xs), max(xs)
    if log and low <= 0:
        raise OptionError("a logarithmic axis has no place for zero")
    return axis_range([math.log10(low), math.log10(high)] if log else [low, high])


def _head(size: tuple[int, int], title: str, key: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wb-panels" role="img" viewBox="0 0 {size[0]} {size[1]}" '
        f'width="{size[0]}" height="{size[1]}" font-family="{FONT}" font-size="10.5" '
        f'style="max-width:100%;height:auto"><title>{escape(title)}</title>'
        "<style>.wb-panels text{fill:currentColor}.wb-panels .t{font-size:13.5px;font-weight:600}"
        ".wb-panels .n{font-weight:600}.wb-panels .s{opacity:.7}.wb-panels .g{stroke:currentColor;"
        "stroke-opacity:.16;fill:none}.wb-panels .r{stroke:currentColor;stroke-opacity:.5;"
        "stroke-dasharray:3 3;fill:none}</style>"
        f'<text class="t" x="12" y="18">{escape(title)}</text>'
    )


def _frame(low: float, high: float, log: bool, y_range: Point, reference: Sequence[float], at) -> str:
    """Axes of one panel, the same in all: grid lines with labels, and the reference lines."""
    back = (lambda v: 10**v) if log else (lambda v: v)
    ticks = [10.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)] if log else None
    ticks = ticks or [back(low), back((low + high) / 2), back(high)]
    parts = []
    for x in ticks:
        top, foot = at(x, y_range[1]), at(x, y_range[0])
        text = f"{x:.3g}"
        parts.append(f'<path class="g" d="M{foot}L{top}"/>')
        parts.append(
            f'<text class="s" x="{foot.split()[0]}" y="{HIGH - _BOTTOM + 13}" text-anchor="middle">{text}</text>'
        )
    middle = (y_range[0] + y_range[1]) / 2
    for y in (y_range[0], middle, y_range[1]):
        left, right = at(back(low), y), at(back(high), y)
        height = float(left.split()[1]) + 3.5
        parts.append(f'<path class="g" d="M{left}L{right}"/>')
        parts.append(f'<text class="s" x="{_LEFT - 4}" y="{height:.1f}" text-anchor="end">{number(y)}</text>')
    for y in reference:
        parts.append(f'<path class="r" d="M{at(back(low), y)}L{at(back(high), y)}"/>')
    return "".join(parts)


def _line(points: Sequence[Point], at) -> str:
    return "M" + "L".join(at(x, y) for x, y in points)


def _panel(name: str, series, note: str, names: Sequence[str], at, x_label: str, y_label: str) -> str:
    parts = [
        f'<text class="n" x="{_LEFT}" y="12">{escape(shorten(name, 26))}<title>{escape(name)}</title></text>'
    ]
    parts.append(f'<text class="s" x="{_LEFT}" y="24">{escape(shorten(note, 30))}</text>')
    for label, points in series.items():
        color = COLORS[names.index(label) % len(COLORS)] if len(names) > 1 else COLORS[0]
        dash = "" if names.index(label) < len(COLORS) else ' stroke-dasharray="4 2"'
        said = "; ".join(f"{number(x)}: {number(y)}" for x, y in points[:24])
        tip = escape(f"{name}, {label}. {x_label}: {y_label}. {said}")
        parts.append(
            f'<path d="{_line(points, at)}" stroke="{color}" stroke-width="1.7" fill="none"{dash}><title>{tip}'
            "</title></path>"
        )
    return "".join(parts)


def _entry(i: int, name: str, top: int, wide: int) -> str:
    x, y = 22 + (i % 4) * (wide - 40) / 4, top + 18 * (i // 4)
    dash = "" if i < len(COLORS) else ' stroke-dasharray="4 2"'
    color = COLORS[i % len(COLORS)]
    return (
        f'<path d="M{x:.0f} {y - 4}h22" stroke="{color}" stroke-width="2"{dash}/>'
        f'<text x="{x + 27:.0f}" y="{y}">{escape(shorten(name, 30))}</text>'
    )
