"""Many curves as small panels of one scale: one panel per method, all others in grey behind it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.core.errors import OptionError
from workbench.view.chart import (
    Axis,
    Box,
    Place,
    axis_labels,
    color,
    dash,
    fitted,
    grid,
    heading,
    legend,
    legend_height,
    path,
    svg,
    tooltip,
    words,
)
from workbench.view.text import number

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
    """Return a grid of panels on one pair of axes; values beyond ``y_range`` are drawn at its edge.

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
        raise OptionError(
            "the panels have no finite points to draw", hint="give at least one point with finite x and y"
        )
    if log_x and min(xs) <= 0:
        raise OptionError(
            "a logarithmic axis has no place for zero",
            hint="log_x=False, or leave out points where x is 0 or less",
        )
    names = list(dict.fromkeys(name for series in shown.values() for name in series))
    plane = _Plane(x=Axis.of(xs, x_label, log=log_x), y=Axis(low=y_range[0], high=y_range[1], label=y_label))
    columns = min(columns, len(shown))
    wide, rows = max(WIDE * columns + 26, 720), math.ceil(len(shown) / columns)
    parts, above = heading(title, wide)
    key = f"wb{zlib.crc32(title.encode('utf-8', 'surrogatepass')):x}"  # tells pictures of one page apart
    if behind:
        every = "".join(plane.line(p) for series in shown.values() for p in series.values())
        faint = 'fill="none" stroke="currentColor" stroke-opacity=".13"'
        parts.append(f'<defs><path id="{key}" d="{every}" {faint}/></defs>')
    frame = plane.frame(reference)
    for k, (name, series) in enumerate(shown.items()):
        x, y = 22 + WIDE * (k % columns), above + HIGH * (k // columns)
        parts.append(f'<g transform="translate({x} {y:.0f})">{frame}')
        parts.append(f'<use href="#{key}"/>' if behind else "")
        parts += [*_panel(name, series, (notes or {}).get(name, ""), names, plane), "</g>"]
    bottom = above + HIGH * rows
    parts += axis_labels(x_label, y_label, (22, above, 22 + WIDE * columns, bottom), below=12, left=12)
    if not behind and len(names) > 1:
        parts += legend(names, 22, wide - 18, bottom + 36, columns=4, marks=False)
        bottom += legend_height(len(names), 4) + 6
    return svg("panels", parts, size=(wide, bottom + 24), title=title)


def _finite(series: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    kept = {
        name: [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(y)]
        for name, points in series.items()
    }
    return {name: points for name, points in kept.items() if points}


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """The plane that all panels have in common."""

    x: Axis
    y: Axis

    @cached_property
    def box(self) -> Box:
        return _LEFT, _TOP, WIDE - _RIGHT, HIGH - _BOTTOM

    @cached_property
    def to_x(self) -> Place:
        return self.x.place(self.box[0], self.box[2])

    @cached_property
    def to_y(self) -> Place:
        whole = self.y.place(self.box[3], self.box[1])
        return lambda value: whole(min(max(value, self.y.low), self.y.high))

    def line(self, points: Sequence[Point]) -> str:
        """The way through some points."""
        return "M" + "L".join(f"{self.to_x(x):.1f} {self.to_y(y):.1f}" for x, y in points)

    def frame(self, reference: Sequence[float]) -> str:
        """Grid, numbers and reference lines, the same in all panels."""
        left, _, right, _ = self.box
        lines = [path(f"M{left} {self.to_y(y):.1f}H{right}", "r") for y in reference]
        ticks = self.x.ticks_along(right - left + 30), self.y.ticks(3)
        return "".join([*grid(*ticks, self.to_x, self.to_y, self.box), *lines])


def _panel(
    name: str, series: Mapping[str, Sequence[Point]], note: str, names: Sequence[str], plane: _Plane
) -> Iterator[str]:
    """The name of a panel, a few words beside it, its curves."""
    wide = WIDE - _LEFT - 4
    yield words(fitted(name, wide), _LEFT, 12, kind="b", tip=name)
    yield words(fitted(note, wide), _LEFT, 24, kind="s")
    for label, points in series.items():
        i = names.index(label) if len(names) > 1 else 0
        said = "; ".join(f"{number(x)}: {number(y)}" for x, y in points[:24])
        tip = tooltip(f"{name}, {label}. {plane.x.label}: {plane.y.label}. {said}")
        yield (
            f'<path d="{plane.line(points)}" stroke="{color(i)}" stroke-width="1.7" fill="none"'
            f"{dash(i, marks=False)}>{tip}</path>"
        )
