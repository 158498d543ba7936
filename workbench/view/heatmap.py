"""A table of numbers as an SVG heatmap: one scale, NaN hatched, values readable, on light and on dark pages."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from workbench.core.errors import ShapeError
from workbench.view.chart import TITLE, heading, svg, text_width, tooltip, words, wrapped
from workbench.view.color import ColorScale, fill, ink
from workbench.view.text import number, printable, shorten


def heatmap_svg(
    matrix: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str = "",
    unit: str = "",
    row_title: str = "",
    column_title: str = "",
    show_values: bool | None = None,
    marks: np.ndarray | None = None,
    lead: str = "",
    notes: Sequence[str] = (),
    scale: ColorScale | None = None,
) -> str:
    """Return a self-contained SVG of a ``(row, column)`` matrix; the first row is drawn at the top.

    Colour runs from orange (negative) over the colour of the page (0) to blue (positive), equally far on both sides.
    NaN cells are hatched. Each cell has a tooltip with its labels and value. ``show_values`` writes the numbers into
    the cells; by default when there are at most 400, in at most 24 columns.

    Args:
        scale: Another scale, such as ``ColorScale.of_amounts`` for what cannot be negative.
        marks: ``(row, column)`` of 0, 1 or 2: cells with a mark are outlined, twice as thick for 2.
        lead, notes: Sentences above the picture and under it.

    Raises:
        ShapeError: if labels and matrix do not fit.
    """
    matrix = np.asarray(matrix, dtype=float)
    scale = scale or ColorScale.around_zero(matrix)
    if matrix.shape != (len(row_labels), len(column_labels)):
        raise ShapeError(
            f"the matrix has shape {matrix.shape}; there are {len(row_labels)} row "
            f"and {len(column_labels)} column labels",
            hint="give one label for each row and one for each column",
        )
    rows, columns = [_label(x) for x in row_labels], [_label(x) for x in column_labels]
    show = values_have_room(matrix) if show_values is None else show_values
    side = _cell_size(matrix, show)
    left = 14 + max((text_width(x) for x in rows), default=0) + (20 if row_title else 0)
    slanted = max((text_width(x) for x in columns), default=0) + 4 > side[0]  # 4: as in _labels
    wide = left + side[0] * len(columns) + max(112, 30 + text_width(shorten(unit, UNIT)))
    wide = max(wide, min(40 + text_width(printable(title)) * TITLE, 640), 520 if lead or notes else 0)
    first = wrapped(lead, wide - 20, scale=0.94)
    last = [line for note in notes for line in wrapped(note, wide - 20, scale=0.94)]
    beneath = heading(title, wide)[1] - 8 if title else 12
    head = beneath + 16 * len(first) + (6 if first else 0)
    above: float = head + (16 if column_title else 0)
    above += (max((text_width(x) for x in columns), default=0) * 0.7 + 8) if slanted else 20
    foot = above + max(side[1] * len(rows), 120) + 14
    height = foot + 16 * len(last) + (8 if last else 0)
    hatch = f"wb-nan-{zlib.crc32(matrix.tobytes()):08x}"
    right, middle = left + side[0] * len(columns), above + side[1] * len(rows) / 2
    parts = [
        _hatch(hatch),
        *heading(title, wide)[0],
        *_sentences(first, beneath + 4, "lead"),
        words(column_title, (left + right) / 2, head + 4, at="middle", kind="b s"),
        words(row_title, 14, middle, at="middle", kind="b s", turn=-90),
        *_labels(rows, columns, left, above, side, slanted),
        *_cells(matrix, row_labels, column_labels, left, above, side, scale, unit, show, hatch),
        *_outlines(marks, left, above, side),
        *_sentences(last, foot + 6, "note"),
        _scale(right + 22, above, scale, unit),
    ]
    style = ".wb-heatmap .v{font-size:10px;pointer-events:none}"
    about = _describe(matrix, unit)
    return svg("heatmap", parts, size=(wide, height), title=title, about=about, style=style)


UNIT = 40  # characters of the unit above the scale


def _sentences(lines: Sequence[str], y: float, kind: str) -> Iterator[str]:
    """Lines of text from a height on; a narrow page has them beside the picture (``captions.js``)."""
    return (words(text, 10, y + 16 * k, kind=kind) for k, text in enumerate(lines))


def _hatch(name: str) -> str:
    """The pattern of cells without a value."""
    return (
        f'<defs><pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="6" height="6" fill="#e8e8e6" '
        'style="fill:light-dark(#e8e8e6,#2b2e33)"/><path d="M0 0V6" stroke="#b4b4b0" stroke-width="2" '
        'style="stroke:light-dark(#b4b4b0,#5a6069)"/></pattern></defs>'
    )


def _outlines(
    marks: np.ndarray | None, left: float, above: float, side: tuple[float, float]
) -> Iterator[str]:
    """A frame around every marked cell."""
    if marks is None:
        return
    gap = 1.0 if side[0] >= 12 else 0.0
    for i, j in np.argwhere(np.nan_to_num(marks) > 0):
        thick = float(marks[i, j])
        yield (
            f'<rect x="{left + side[0] * j:.1f}" y="{above + side[1] * i:.1f}" width="{side[0] - gap:.1f}" '
            f'height="{side[1] - gap:.1f}" rx="{gap * 2:g}" fill="none" stroke="currentColor" '
            f'stroke-width="{thick:g}" class="mark"/>'
        )


def _cell_size(matrix: np.ndarray, show: bool) -> tuple[float, float]:
    if show:
        return 46.0, 26.0
    return (
        max(6.0, min(26.0, 1100 / max(matrix.shape[1], 1))),
        max(6.0, min(22.0, 900 / max(matrix.shape[0], 1))),
    )


def _label(text: object) -> str:
    return shorten(printable(str(text)), 24)


def _describe(matrix: np.ndarray, unit: str) -> str:
    finite = matrix[np.isfinite(matrix)]
    if not finite.size:
        return "no values"
    where = f"{matrix.shape[0]} rows, {matrix.shape[1]} columns"
    return f"{where}, from {number(float(finite.min()))} to {number(float(finite.max()))} {unit}".strip()


def _labels(
    rows: list[str], columns: list[str], left: float, above: float, side: tuple[float, float], slanted: bool
) -> Iterator[str]:
    """Row and column labels; some are left out where they would overlap."""
    for i in range(0, len(rows), max(1, math.ceil(11 / side[1]))):
        yield words(rows[i], left - 6, above + side[1] * (i + 0.5) + 4, at="end")
    widest = text_width(max(columns, key=len, default="")) + 4
    for j in range(0, len(columns), max(1, math.ceil((12 if slanted else widest) / side[0]))):
        x = left + side[0] * (j + 0.5)
        where = {"turn": -55} if slanted else {"at": "middle"}
        yield words(columns[j], x + 4 if slanted else x, above - 6, **where)


def _cells(
    matrix: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    left: float,
    above: float,
    side: tuple[float, float],
    scale: ColorScale,
    unit: str,
    show: bool,
    hatch: str,
) -> list[str]:
    parts, gap = [], 1.0 if side[0] >= 12 else 0.0
    for (i, j), value in np.ndenumerate(matrix):
        x, y = left + side[0] * j, above + side[1] * i
        size = f'width="{side[0] - gap:.1f}" height="{side[1] - gap:.1f}" rx="{gap * 2:g}"'
        box = f'x="{x:.1f}" y="{y:.1f}" {size}'
        where = f"{row_labels[i]}, {column_labels[j]}: "
        if math.isnan(value):
            parts.append(f'<rect {box} fill="url(#{hatch})">{tooltip(where + "no value")}</rect>')
            continue
        light, dark = scale.color(value), scale.dark(value)
        tip = tooltip(f"{where}{number(float(value), digits=4)} {unit}".rstrip())
        parts.append(f"<rect {box} {fill(light, dark)}>{tip}</rect>")
        if show:
            parts.append(
                f'<text class="v" x="{x + side[0] / 2 - gap / 2:.1f}" y="{y + side[1] / 2 + 3:.1f}" '
                f'text-anchor="middle" style="fill:{ink(light)};fill:light-dark({ink(light)},{ink(dark)})">'
                f"{cell_text(value, scale.high)}</text>"
            )
    return parts


def cell_text(value: float, top: float) -> str:
    """Return a value short enough for a cell, with as many decimals as the scale of the table needs."""
    if math.isinf(value):
        return number(value)
    decimals = max(0, 2 - math.floor(math.log10(top) + 1e-12)) if top < 1000 else 0
    if decimals > 4:
        return f"{value:.0e}".replace("-", "−").replace("e−0", "e−")
    text = f"{value:.{min(decimals, 3)}f}"
    return "0" if not float(text) else text.replace("-", "−")


def values_have_room(matrix: np.ndarray) -> bool:
    """Say whether numbers stand in the cells when nobody says so: at most 400, in at most 24 columns."""
    return matrix.size <= 400 and matrix.shape[1] <= 24


def _scale(x: float, above: float, scale: ColorScale, unit: str) -> str:
    """The colour bar, the highest value above, with three numbers beside it."""
    steps, height = 40, 110.0
    parts = []
    for k in range(steps):
        value = scale.at((k + 0.5) / steps)
        parts.append(
            f'<rect x="{x:.1f}" y="{above + height * k / steps:.2f}" width="12" '
            f'height="{height / steps + 0.4:.2f}" {fill(scale.color(value), scale.dark(value))}/>'
        )
    for part, value in zip((0.0, 0.5, 1.0), scale.stops, strict=True):
        y = above + height * part + (8 if part == 0 else 4 if part == 0.5 else 0)
        sign = "+" if value > 0 and scale.low < 0 else ""
        parts.append(words(f"{sign}{number(value)}", x + 17, y))
    parts.append(words(shorten(unit, UNIT), x, above - 7, kind="s"))
    return "".join(parts)
