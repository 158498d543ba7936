"""Words and patches side by side: point at a word, and every head shows where it looks, in the picture and at words.

A picture without script: each word holds the maps of all heads, shown while a pointer or the focus is on it. Under each
map stands a line of cells, one for each word, the darker the more attention it gets.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.core.errors import ShapeError
from workbench.view.chart import TITLE, heading, svg, text_width, tooltip, words, wrapped
from workbench.view.color import css, signed
from workbench.view.head_maps import Outline, outline, scale_end, shade_pixels, shaded_patches
from workbench.view.raster import image
from workbench.view.text import number, printable, shorten

LEAST = 0.01  # the end of a scale: a map with less on every patch stays dark
_GAP, _CELL, _SIDE = 14, 12.0, 92.0
_STYLE = (
    ".wb-token-maps rect{shape-rendering:crispEdges}.wb-token-maps .o{fill:none;stroke:#fff;stroke-width:2}"
    ".wb-token-maps .d{stroke:#111}.wb-token-maps .w{cursor:pointer;outline:none}"
    ".wb-token-maps .b{fill:#808890;fill-opacity:.14;stroke:#808890;stroke-opacity:.6}"
    ".wb-token-maps .q .b,.wb-token-maps .w:hover .b,.wb-token-maps .w:focus .b"
    "{stroke:#7a3fd1;stroke-opacity:1;stroke-width:2}"
    ".wb-token-maps:has(.w:hover) .q:not(:hover) .b,.wb-token-maps:has(.w:focus) .q:not(:focus):not(:hover) .b"
    "{stroke:#808890;stroke-opacity:.6;stroke-width:1}"
    ".wb-token-maps .m{visibility:hidden;pointer-events:none}"
    ".wb-token-maps .w:hover .m,.wb-token-maps .w:focus .m{visibility:visible}"
    ".wb-token-maps:has(.w:hover) .w:focus:not(:hover) .m{visibility:hidden}"
    ".wb-token-maps:has(.w:hover) .f,.wb-token-maps:has(.w:focus) .f{visibility:hidden}"
)


@dataclass(frozen=True, kw_only=True)
class TokenMaps:
    """What every word shows of every head.

    Attributes:
        maps: ``(word, row, column, patch row, patch column)``: attention from a word to each patch.
        weights: ``(word, row, column, word)``: attention from a word to each word.
        words: The words in their order.
        rows, columns: Names of layers and heads.
        shown: The word whose maps are shown until a pointer is on another.
    """

    maps: np.ndarray
    weights: np.ndarray
    words: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    shown: int

    def __post_init__(self) -> None:
        n, heads = len(self.words), (len(self.rows), len(self.columns))
        if self.maps.shape[:3] != (n, *heads) or self.weights.shape != (n, *heads, n):
            raise ShapeError(
                f"{n} words and {heads[0]} x {heads[1]} heads have maps of {self.maps.shape} and weights of "
                f"{self.weights.shape}"
            )


def token_maps_svg(
    found: TokenMaps,
    *,
    title: str = "",
    lead: str = "",
    pixels: np.ndarray | None = None,
    outlines: Sequence[Outline] = (),
    solid: bool = True,
) -> str:
    """Return a self-contained SVG of the words, and of the maps of all heads, layers down, heads across.

    Args:
        pixels: The picture under the maps, uint8 ``(height, width, 3)``.
        outlines: Rectangles of patches.
        solid: The first of them has a whole line.
    """
    rows, columns = [_label(x) for x in found.rows], [_label(x) for x in found.columns]
    left = 22 + max(text_width(x) for x in rows)
    wide = max(left + (_SIDE + _GAP) * len(columns), min(40 + text_width(printable(title)) * TITLE, 640), 440)
    lines = wrapped(lead, wide - 20, scale=0.94)
    top = (heading(title, wide)[1] - 4 if title else 12) + 16 * len(lines)
    strip, above = _strip(found.words, wide - 12, top + 10)
    tall = _SIDE * found.maps.shape[3] / found.maps.shape[4]
    step = tall + _CELL + 32
    name = ""
    parts = [*heading(title, wide)[0]]
    parts += [words(t, 10, top - 16 * (len(lines) - 1 - i)) for i, t in enumerate(lines)]
    if pixels is not None:
        name = f"wb-seen-{zlib.crc32(pixels.tobytes() + title.encode('utf-8', 'surrogatepass')):08x}"
        parts.append(f"<defs>{image(pixels, 0, 0, _SIDE, tall, name=name)}</defs>")
    parts += [
        words(x, left + (_SIDE + _GAP) * j + _SIDE / 2, above + 14, at="middle")
        for j, x in enumerate(columns)
    ]
    parts += [words(x, left - 8, above + 22 + step * i + tall / 2 + 4, at="end") for i, x in enumerate(rows)]

    def layer(word: int, *, told: bool) -> Iterator[str]:
        for i, j in np.ndindex(len(rows), len(columns)):
            x, y = left + (_SIDE + _GAP) * j, above + 22 + step * i
            head = f"{rows[i]} {columns[j]} from {_label(found.words[word])}"
            yield f'<g transform="translate({x:.1f} {y:.1f})">'
            yield from _picture(found.maps[word, i, j], (_SIDE, tall), name, head, told=told)
            yield from (
                outline(b, found.maps.shape[3:], (_SIDE, tall), broken=k > 0 or not solid)
                for k, b in enumerate(outlines)
            )
            yield from _cells(found.weights[word, i, j], found.words, tall + 3, head, told=told)
            said = f"0 to {number(scale_end(found.maps[word, i, j], least=LEAST))}"
            yield f"{words(said, _SIDE / 2, tall + _CELL + 15, at='middle', kind='s')}</g>"

    parts.append(f'<g class="f">{"".join(layer(found.shown, told=True))}</g>')
    for k, (box, text) in enumerate(strip):
        own = "" if k == found.shown else "".join(layer(k, told=False))
        own = own and f'<g class="m">{own}</g>'
        kind, where = ("w q", "f") if k == found.shown else ("w", "m")
        parts.append(
            f'<g class="{kind}" tabindex="0" data-word="{k}" data-shows="{where}">{box}{text}{own}</g>'
        )
    about = f"{len(rows)} x {len(columns)} heads, {len(found.words)} words"
    return svg(
        "token-maps",
        parts,
        size=(wide, above + 22 + step * len(rows)),
        title=title,
        about=about,
        style=_STYLE,
    )


def _strip(tokens: Sequence[str], wide: float, y: float) -> tuple[list[tuple[str, str]], float]:
    """Each word in a box, in lines, and where the next thing begins."""
    found, x = [], 10.0
    for token in tokens:
        text = _label(token)
        size = 16 + text_width(text)
        if x > 10 and x + size > wide:
            x, y = 10.0, y + 26
        box = f'<rect class="b" x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="20" rx="4"/>'
        found.append((box, words(text, x + size / 2, y + 14, at="middle")))
        x += size + 5
    return found, y + 26


def _picture(
    map_: np.ndarray, size: tuple[float, float], under: str, head: str, *, told: bool
) -> Iterator[str]:
    """One map over the picture; with a text for each patch, or as one small image."""
    if told:
        yield from shaded_patches(map_, size, head, "of attention", under, least=LEAST)
        return
    if under:
        yield f'<use href="#{under}"/>'
    yield image(shade_pixels(map_, over=bool(under), least=LEAST), 0, 0, *size)


def _cells(weights: np.ndarray, names: Sequence[str], y: float, head: str, *, told: bool) -> Iterator[str]:
    """One cell a word, shaded by its share of attention, the scale from 0 to 1."""
    wide = _SIDE / len(names)
    if not told:
        shades = np.array([[signed(float(share)) for share in weights]], dtype=np.uint8)
        yield image(shades, 0, y, _SIDE, _CELL)
    for k, (name, share) in enumerate(zip(names, weights, strict=True)) if told else ():
        tip = tooltip(f"{head} to {_label(name)}: {number(float(share))} of attention")
        place = f'x="{wide * k:.2f}" y="{y:.1f}" width="{wide:.2f}" height="{_CELL}"'
        yield f'<rect {place} fill="{css(signed(float(share)))}">{tip}</rect>'
    frame = f'x="0" y="{y:.1f}" width="{_SIDE}" height="{_CELL}"'
    yield f'<rect {frame} fill="none" stroke="#808890" stroke-opacity=".7"/>'


def _label(text: object) -> str:
    return shorten(printable(str(text)).strip() or "␣", 24)
