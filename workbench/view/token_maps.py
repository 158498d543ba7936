"""Words and patches side by side: point at a word, and every head shows where it looks, in the picture and at words.

A picture without script: each word holds the maps of all heads, shown while a pointer or the focus is on it. Under each
map stands a line of cells, one for each word, the darker the more attention it gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.core.errors import ShapeError
from workbench.view.chart import TITLE, svg, text_width, tooltip, words
from workbench.view.color import ColorScale, fill
from workbench.view.head_maps import (
    Outline,
    opaque,
    outline,
    picture_under,
    scale_end,
    shade_pixels,
    shaded_patches,
    titled,
)
from workbench.view.raster import image
from workbench.view.text import number, printable, shorten

_SHARES = ColorScale(0.0, 1.0)
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
                f"{self.weights.shape}",
                hint="give maps of shape (word, layer, head, patch row, patch column), and weights of "
                "shape (word, layer, head, word)",
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
    parts, top = titled(title, lead, wide)
    strip, above = _strip(found.words, wide - 12, top + 10)
    tall = _SIDE * found.maps.shape[3] / found.maps.shape[4]
    name, seen = picture_under(pixels, title, "wb-seen", (_SIDE, tall))
    grid = _Grid(found, rows, columns, name, tall, left, above + 22, outlines, solid)
    parts += [*seen, *grid.labels()]
    parts.append(f'<g class="f">{"".join(grid.layer(found.shown, told=True))}</g>')
    for k, (box, text) in enumerate(strip):
        own = "" if k == found.shown else "".join(grid.layer(k, told=False))
        own = own and f'<g class="m">{own}</g>'
        kind, where = ("w q", "f") if k == found.shown else ("w", "m")
        parts.append(
            f'<g class="{kind}" tabindex="0" data-word="{k}" data-shows="{where}">{box}{text}{own}</g>'
        )
    about = f"{len(rows)} x {len(columns)} heads, {len(found.words)} words"
    size = (wide, grid.top + grid.step * len(rows))
    return svg("token-maps", parts, size=size, title=title, about=about, style=_STYLE)


@dataclass(frozen=True)
class _Grid:
    """Where the maps of all heads stand, layers down, heads across."""

    found: TokenMaps
    rows: list[str]
    columns: list[str]
    picture: str  # the name of the picture under the maps; empty for none
    tall: float
    left: float
    top: float
    outlines: Sequence[Outline]
    solid: bool

    @property
    def step(self) -> float:
        """From one row to the next."""
        return self.tall + _CELL + 32

    def labels(self) -> Iterator[str]:
        """Return the names of heads above and of layers on the left."""
        for j, column in enumerate(self.columns):
            yield words(column, self.left + (_SIDE + _GAP) * j + _SIDE / 2, self.top - 8, at="middle")
        for i, row in enumerate(self.rows):
            yield words(row, self.left - 8, self.top + self.step * i + self.tall / 2 + 4, at="end")

    def layer(self, word: int, *, told: bool) -> Iterator[str]:
        """Return the maps of all heads from one word."""
        for i, j in np.ndindex(len(self.rows), len(self.columns)):
            x, y = self.left + (_SIDE + _GAP) * j, self.top + self.step * i
            yield f'<g transform="translate({x:.1f} {y:.1f})">'
            yield from self._head(word, i, j, told=told)
            yield "</g>"

    def _head(self, word: int, i: int, j: int, *, told: bool) -> Iterator[str]:
        found, size = self.found, (_SIDE, self.tall)
        head = f"{self.rows[i]} {self.columns[j]} from {_label(found.words[word])}"
        yield from _picture(found.maps[word, i, j], size, self.picture, head, told=told)
        for k, box in enumerate(self.outlines):
            yield outline(box, found.maps.shape[3:], size, broken=k > 0 or not self.solid)
        yield from _cells(found.weights[word, i, j], found.words, self.tall + 3, head, told=told)
        said = f"0 to {number(scale_end(found.maps[word, i, j], least=LEAST))}"
        yield words(said, _SIDE / 2, self.tall + _CELL + 15, at="middle", kind="s")


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
        yield image(opaque(np.asarray(weights)[None]), 0, y, _SIDE, _CELL)
    for k, (name, share) in enumerate(zip(names, weights, strict=True)) if told else ():
        tip = tooltip(f"{head} to {_label(name)}: {number(float(share))} of attention")
        place = f'x="{wide * k:.2f}" y="{y:.1f}" width="{wide:.2f}" height="{_CELL}"'
        yield f"<rect {place} {fill(_SHARES.color(float(share)), _SHARES.dark(float(share)))}>{tip}</rect>"
    frame = f'x="0" y="{y:.1f}" width="{_SIDE}" height="{_CELL}"'
    yield f'<rect {frame} fill="none" stroke="#808890" stroke-opacity=".7"/>'


def _label(text: object) -> str:
    return shorten(printable(str(text)).strip() or "␣", 24)
