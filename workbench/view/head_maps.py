"""Maps of heads over a picture: one small picture per head, layers down, heads across.

Over a picture a patch is the darker the less attention it gets; what is looked at keeps its colours. Without a picture
a map is drawn in the colours of amounts, or of signed numbers where it has some below zero. Every map has its own
scale, whose end stands under it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from workbench.core.errors import ShapeError
from workbench.view.chart import TITLE, heading, svg, text_width, tooltip, words, wrapped
from workbench.view.color import ColorScale, fill
from workbench.view.raster import image
from workbench.view.text import number, printable, shorten

Outline = tuple[int, int, int, int]
"""Top, left, bottom and right of a rectangle of patches, half open."""
DARKEST = 0.75  # of a patch that gets nothing
MOST_RECTS = 6000  # patches with a tooltip of their own; beyond it a map is one image
_GAP, _UNDER = 10, 18
_STYLE = (
    ".wb-head-maps rect{shape-rendering:crispEdges}.wb-head-maps .o{fill:none;stroke:#fff;stroke-width:2}"
    ".wb-head-maps .d{stroke:#111}"
)


def head_maps_svg(
    maps: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str = "",
    unit: str = "",
    pixels: np.ndarray | None = None,
    outlines: Sequence[Outline] = (),
    solid: bool = True,
    under: Sequence[Sequence[str]] = (),
    lead: str = "",
    side: float = 96.0,
    least: float = 0.0,
) -> str:
    """Return a self-contained SVG of ``(row, column, patch row, patch column)`` maps, the first row at the top.

    Args:
        unit: Of the maps, for tooltips.
        pixels: The picture under the maps, uint8 ``(height, width, 3)``.
        outlines: Rectangles of patches, with a broken line.
        solid: The first of them has a whole line.
        under: What stands under each map; by default the end of its scale.
        lead: A sentence above the maps.
        least: Where every scale ends at least; 1 gives shares one scale.

    Raises:
        ShapeError: if labels and maps do not fit.
    """
    maps = np.asarray(maps, dtype=float)
    rows, columns = [_label(x) for x in row_labels], [_label(x) for x in column_labels]
    if maps.ndim != 4 or maps.shape[:2] != (len(rows), len(columns)):
        raise ShapeError(
            f"the maps have shape {maps.shape}; there are {len(rows)} row and {len(columns)} column labels",
            hint="give maps of shape (row, column, patch row, patch column), and one label for each row and column",
        )
    left = 22 + max((text_width(x) for x in rows), default=0)
    wide = max(left + (side + _GAP) * len(columns) + 4, min(40 + text_width(printable(title)) * TITLE, 640))
    parts, head = titled(title, lead, wide)
    above, tall = head + 24, side * maps.shape[2] / maps.shape[3]
    high = above + (tall + _GAP + _UNDER) * len(rows)
    name, seen = picture_under(pixels, title, "wb-under", (side, tall))
    parts += seen
    parts += [
        words(x, left + (side + _GAP) * j + side / 2, above - 5, at="middle") for j, x in enumerate(columns)
    ]
    for i, row in enumerate(rows):
        y = above + (tall + _GAP + _UNDER) * i
        parts.append(words(row, left - 8, y + tall / 2 + 4, at="end"))
        for j, column in enumerate(columns):
            x, map_ = left + (side + _GAP) * j, maps[i, j]
            said = under[i][j] if under else f"0 to {number(scale_end(map_, least=least))}"
            parts.append(f'<g transform="translate({x:.1f} {y:.1f})">')
            whole = maps.size > MOST_RECTS
            parts += _map(map_, (side, tall), f"{row} {column}", unit, name, whole=whole, least=least)
            parts += [
                outline(box, map_.shape, (side, tall), broken=i > 0 or not solid)
                for i, box in enumerate(outlines)
            ]
            parts.append(f"{words(said, side / 2, tall + 13, at='middle', kind='s')}</g>")
    return svg("head-maps", parts, size=(wide, high), title=title, about=_describe(maps, unit), style=_STYLE)


def titled(title: str, lead: str, wide: float) -> tuple[list[str], float]:
    """Return a title and the sentence under it, and the height at which they end."""
    lines = wrapped(lead, wide - 20, scale=0.94)
    end = (heading(title, wide)[1] - 4 if title else 12) + 16 * len(lines)
    sentences = (words(t, 10, end - 16 * (len(lines) - 1 - i)) for i, t in enumerate(lines))
    return [*heading(title, wide)[0], *sentences], end


def picture_under(
    pixels: np.ndarray | None, title: str, kind: str, size: tuple[float, float]
) -> tuple[str, list[str]]:
    """Return the name by which maps show a picture, and its definition; empty where there is no picture."""
    if pixels is None:
        return "", []
    name = f"{kind}-{zlib.crc32(pixels.tobytes() + title.encode('utf-8', 'surrogatepass')):08x}"
    return name, [f"<defs>{image(pixels, 0, 0, *size, name=name)}</defs>"]


def _map(
    map_: np.ndarray,
    size: tuple[float, float],
    head: str,
    unit: str,
    under: str,
    *,
    whole: bool,
    least: float = 0.0,
) -> Iterator[str]:
    """One map: the picture, and over it a shade for each patch; one image where there are too many."""
    if not whole:
        yield from shaded_patches(map_, size, head, unit, under, least=least)
        return
    if under:
        yield f'<use href="#{under}"/>'
    tip = tooltip(f"{head}: up to {number(scale_end(map_))} {unit}".rstrip())
    yield f"<g>{image(shade_pixels(map_, over=bool(under), least=least), 0, 0, *size)}{tip}</g>"


def shaded_patches(
    map_: np.ndarray, size: tuple[float, float], head: str, unit: str, under: str, *, least: float = 0.0
) -> Iterator[str]:
    """Return the picture and over it a shade for each patch, each with a text that says its number."""
    shares = _shares(map_, least)
    scale = ColorScale.of_amounts(shares, high=1.0)
    if under:
        yield f'<use href="#{under}"/>'
    wide, tall = size[0] / map_.shape[1], size[1] / map_.shape[0]
    for (row, column), value in np.ndenumerate(map_):
        share = float(shares[row, column])
        paint = (
            f'fill="#000" fill-opacity="{DARKEST * (1 - max(share, 0)):.2f}"'
            if under
            else fill(scale.color(share), scale.dark(share))
        )
        tip = tooltip(f"{head}, row {row + 1}, column {column + 1}: {number(float(value))} {unit}".rstrip())
        place = f'x="{wide * column:.2f}" y="{tall * row:.2f}" width="{wide:.2f}" height="{tall:.2f}"'
        yield f"<rect {place} {paint}>{tip}</rect>"


def shade_pixels(map_: np.ndarray, *, over: bool, least: float = 0.0) -> np.ndarray:
    """Return a map as pixels: black of some opacity over a picture; without one, colours as opaque as they are strong,
    so that nothing is the colour of the page.
    """
    shares = _shares(map_, least)
    if over:
        shades = np.zeros((*shares.shape, 4), dtype=np.uint8)
        shades[..., 3] = np.round(255 * DARKEST * (1 - shares.clip(0, 1)))
        return shades
    return opaque(shares)


def opaque(shares: np.ndarray) -> np.ndarray:
    """Return pixels of one strong colour each, as opaque as the share is large."""
    scale = ColorScale.of_amounts(shares, high=1.0)
    colors = [scale.color(math.copysign(0.75, share)) for share in shares.ravel().tolist()]
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.array(colors, dtype=np.uint8).reshape(*shares.shape, 3)
    pixels[..., 3] = np.round(255 * np.abs(shares).clip(0, 1))
    return pixels


def _shares(map_: np.ndarray, least: float) -> np.ndarray:
    """A map in units of the end of its scale."""
    return np.nan_to_num(map_ / scale_end(map_, least=least)).clip(-1, 1)


def outline(box: Outline, grid: tuple[int, ...], size: tuple[float, float], *, broken: bool) -> str:
    """Return a rectangle of patches: a white line on a dark one, seen on every picture."""
    wide, tall = size[0] / grid[1], size[1] / grid[0]
    top, left, bottom, right = box
    place = (
        f'x="{wide * left:.1f}" y="{tall * top:.1f}" width="{wide * (right - left):.1f}" '
        f'height="{tall * (bottom - top):.1f}"'
    )
    dashes = ' stroke-dasharray="4 3"' if broken else ""
    return f'<rect class="o d" style="stroke-width:4" {place}/><rect class="o" {place}{dashes}/>'


def scale_end(map_: np.ndarray, *, least: float = 0.0) -> float:
    """Return the end of a map's scale: its largest value, but not below ``least``; 1 where none is above zero."""
    finite = map_[np.isfinite(map_)]
    top = max(float(finite.max()) if finite.size else 0.0, least)
    return top if top > 0 else 1.0


def _label(text: object) -> str:
    return shorten(printable(str(text)), 24)


def _describe(maps: np.ndarray, unit: str) -> str:
    return (
        f"{maps.shape[0]} x {maps.shape[1]} maps of {maps.shape[2]} x {maps.shape[3]} patches {unit}".strip()
    )
