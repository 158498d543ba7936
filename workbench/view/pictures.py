"""Pictures as data: numbers and words that a file can hold, drawn when they are shown.

No file of ours holds markup. A result keeps these descriptions, and `workbench/view/` draws them, escaping every word.
"""

from __future__ import annotations

import base64
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from workbench.core.errors import ShapeError
from workbench.core.typed import Part
from workbench.view.bars import bars_svg
from workbench.view.chart import LARGEST
from workbench.view.color import ColorScale
from workbench.view.curve import curve_svg
from workbench.view.head_maps import head_maps_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.scatter import scatter_svg

MOST_MARKS = 100_000  # cells, bars or points of one picture: some 20 MB of SVG
Number = float | None  # what is not finite is None, and is drawn as no value
Wide = Annotated[int, msgspec.Meta(ge=200, le=2000)]
P = TypeVar("P", bound="Drawn")


class _Abstract(msgspec.StructMeta, ABCMeta):
    """A part of a file that only its subclasses can be."""


class Drawn(Part, metaclass=_Abstract, kw_only=True, frozen=True, tag_field="kind"):
    """What all pictures have: a title and a way to be drawn."""

    title: str = ""

    @abstractmethod
    def svg(self) -> str:
        """Return the picture as SVG, made now from its numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; ``kind`` says which picture it is."""
        return msgspec.to_builtins(self)

    def _repr_html_(self) -> str:
        return self.svg()


class Heatmap(Drawn, frozen=True, kw_only=True, tag="heatmap"):
    """A table of signed numbers, rows from the top."""

    values: tuple[tuple[Number, ...], ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    unit: str = ""
    row_title: str = ""
    column_title: str = ""
    show_values: bool | None = None

    @classmethod
    def of(cls, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], **words: Any) -> Heatmap:
        """Return a heatmap of a ``(row, column)`` array.

        Raises:
            ShapeError: if labels and matrix do not fit.
        """
        return _made(cls, values=_rows(np.asarray(matrix)), rows=rows, columns=columns, **words)

    @classmethod
    def of_heads(cls, values: np.ndarray, layers: Sequence[int], **words: Any) -> Heatmap:
        """Return a heatmap of one value per head, ``(layer, head)``.

        Example:
            >>> Heatmap.of_heads(np.zeros((1, 2)), [3]).rows, Heatmap.of_heads(np.zeros((1, 2)), [3]).columns
            (('layer 3',), ('h0', 'h1'))
        """
        columns = [f"h{head}" for head in range(np.shape(values)[1])]
        return cls.of(values, [f"layer {layer}" for layer in layers], columns, **words)

    def __post_init__(self) -> None:
        _check(self, len(self.rows) * len(self.columns), (v for row in self.values for v in row))
        lengths = {len(row) for row in self.values}
        if len(self.values) != len(self.rows) or lengths - {len(self.columns)}:
            raise ValueError(
                f"a heatmap of {len(self.rows)} rows and {len(self.columns)} columns has {len(self.values)} rows "
                f"of {' or '.join(map(str, sorted(lengths)))} values"
            )

    def svg(self) -> str:
        """Return the picture as SVG text."""
        matrix = np.array(self.values, dtype=float).reshape(len(self.rows), len(self.columns))
        words = {name: getattr(self, name) for name in ("title", "unit", "row_title", "column_title")}
        scale = ColorScale.of_amounts(matrix, high=1.0) if self.unit == "share" else None
        return heatmap_svg(
            matrix, self.rows, self.columns, show_values=self.show_values, scale=scale, **words
        )


class Bar(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One amount with its interval and a short remark."""

    name: str
    value: Number
    low: Number
    high: Number
    remark: str


class Bars(Drawn, frozen=True, kw_only=True, tag="bars"):
    """Named amounts from zero, one a line."""

    bars: tuple[Bar, ...]
    x_label: str
    width: Wide = 640

    @classmethod
    def of(cls, bars: Iterable[tuple[str, float, float, float, str]], **words: Any) -> Bars:
        """Return bars ``(name, value, low, high, remark)``.

        Raises:
            ShapeError: if no value is finite.
        """
        return _made(cls, bars=[(bar[0], *map(_known, bar[1:4]), bar[4]) for bar in bars], **words)

    def __post_init__(self) -> None:
        shown = [b for b in self.bars if b.value is not None]
        _check(self, len(shown), (v for b in shown for v in (b.value, b.low, b.high)), least=1)

    def svg(self) -> str:
        """Return the picture as SVG text."""
        bars = [(b.name, _nan(b.value), _nan(b.low), _nan(b.high), b.remark) for b in self.bars]
        return bars_svg(bars, x_label=self.x_label, title=self.title, width=self.width)


class Curves(Drawn, frozen=True, kw_only=True, tag="curves"):
    """One quantity over another, several series: points ``(x, y)``, ``(x, y, error)`` or ``(x, y, low, high)``."""

    series: dict[str, tuple[tuple[Number, ...], ...]]
    x_label: str
    y_label: str
    log_x: bool = False
    reference: dict[str, Number] = msgspec.field(default_factory=dict)
    width: Wide = 640

    @classmethod
    def of(cls, series: Mapping[str, Iterable[tuple[float, ...]]], **words: Any) -> Curves:
        """Return curves of points, by name.

        Raises:
            ShapeError: if a point has other than two to four numbers, or none is finite.
        """
        return _made(cls, series={name: _rows(points) for name, points in series.items()}, **words)

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]], x: str, names: Sequence[str], **words: Any) -> Curves:
        """Return curves of some columns of a table over another column.

        Example:
            >>> Curves.of_rows([{"heads": 1, "top": 0.5}], "heads", ["top"], x_label="", y_label="").series
            {'top': ((1.0, 0.5),)}
        """
        return cls.of({name: [(row[x], row[name]) for row in rows] for name in names}, **words)

    def __post_init__(self) -> None:
        points = [p for points in self.series.values() for p in points]
        wrong = {len(p) for p in points} - {2, 3, 4}
        if wrong:
            raise ValueError(f"a point of a curve has {min(wrong)} numbers; expected 2, 3 or 4")
        points = [p for p in points if None not in p[:2]]
        _check(self, len(points), (v for p in (*points, tuple(self.reference.values())) for v in p), least=1)

    def svg(self) -> str:
        """Return the picture as SVG text."""
        series = {name: [tuple(map(_nan, p)) for p in points] for name, points in self.series.items()}
        lines = {name: y for name, y in self.reference.items() if y is not None}
        words = {name: getattr(self, name) for name in ("x_label", "y_label", "title")}
        return curve_svg(series, log_x=self.log_x, reference=lines, width=self.width, **words)


class Scatter(Drawn, frozen=True, kw_only=True, tag="scatter"):
    """Points ``(x, y, name)`` by kind, both axes in one unit."""

    points: dict[str, tuple[tuple[Number, Number, str], ...]]
    x_label: str
    y_label: str
    diagonal: str = ""

    @classmethod
    def of(cls, points: Mapping[str, Iterable[tuple[float, float, str]]], **words: Any) -> Scatter:
        """Return points by kind.

        Raises:
            ShapeError: if no point is finite.
        """
        found = {kind: [(_known(x), _known(y), name) for x, y, name in p] for kind, p in points.items()}
        return _made(cls, points=found, **words)

    def __post_init__(self) -> None:
        points = [p for rows in self.points.values() for p in rows if None not in p[:2]]
        _check(self, len(points), (v for p in points for v in p[:2]), least=1)

    def svg(self) -> str:
        """Return the picture as SVG text."""
        points = {k: [(_nan(x), _nan(y), name) for x, y, name in rows] for k, rows in self.points.items()}
        words = {name: getattr(self, name) for name in ("x_label", "y_label", "title", "diagonal")}
        return scatter_svg(points, **words)


class HeadMaps(Drawn, frozen=True, kw_only=True, tag="head-maps"):
    """Maps of heads, over a picture or alone: one small picture per row and column.

    Attributes:
        maps: Row, column, then rows and columns of patches.
        pixels: The picture under them: its bytes, three per pixel, as base64; empty where there is none.
        size: Height and width of the picture in pixels.
        outlines: Top, left, bottom and right of rectangles of patches.
        under: What stands under each map.
    """

    maps: tuple[tuple[tuple[tuple[Number, ...], ...], ...], ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    unit: str = ""
    lead: str = ""
    pixels: str = ""
    size: tuple[int, int] = (0, 0)
    outlines: tuple[tuple[int, int, int, int], ...] = ()
    under: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(
        cls,
        maps: np.ndarray,
        rows: Sequence[str],
        columns: Sequence[str],
        *,
        pixels: np.ndarray | None = None,
        **words: Any,
    ) -> HeadMaps:
        """Maps ``(row, column, patch row, patch column)``, over pixels ``(height, width, 3)`` if there are some.

        Raises:
            ShapeError: if labels, maps and pixels do not fit.
        """
        under = {}
        if pixels is not None:
            under = {"pixels": base64.b64encode(pixels.tobytes()).decode("ascii"), "size": pixels.shape[:2]}
        return _made(
            cls, maps=[[_rows(m) for m in row] for row in maps], rows=rows, columns=columns, **under, **words
        )

    @classmethod
    def of_heads(cls, maps: Mapping[str, np.ndarray], **words: Any) -> HeadMaps:
        """Return one map per head by address, layers from the top.

        Raises:
            ShapeError: if a layer lacks a head that another has.
        """
        layers = list(dict.fromkeys(head.partition(".")[0] for head in maps))
        heads = list(dict.fromkeys(head.partition(".")[2] for head in maps))
        if len(layers) * len(heads) != len(maps):
            raise ShapeError(
                f"{len(maps)} heads do not fill {len(layers)} layers of {len(heads)}",
                hint="give every layer the same heads: a0.h0, a0.h1, a1.h0, a1.h1",
            )
        grid = np.array([[maps[f"{layer}.{head}"] for head in heads] for layer in layers])
        return cls.of(grid, layers, heads, **words)

    def __post_init__(self) -> None:
        sizes = {(len(m), len(line)) for row in self.maps for m in row for line in m}
        if (
            len(sizes) != 1
            or len(self.maps) != len(self.rows)
            or {*map(len, self.maps)} != {len(self.columns)}
        ):
            raise ValueError(
                f"{len(self.rows)} rows and {len(self.columns)} columns of maps of one size are expected; there are "
                f"{len(self.maps)} rows, and maps of {sorted(sizes)[:3]}"
            )
        if self.under and [len(row) for row in self.under] != [len(self.columns)] * len(self.rows):
            raise ValueError("there is not one text under each map")
        [(height, width)] = sizes
        values = [v for row in self.maps for m in row for line in m for v in line]
        _check(self, len(self.rows) * len(self.columns) * height * width, values)
        self._colours()

    def _colours(self) -> np.ndarray | None:
        if not self.pixels:
            return None
        try:
            flat = np.frombuffer(base64.b64decode(self.pixels, validate=True), dtype=np.uint8)
        except ValueError as problem:
            raise ValueError(f"the pixels are no base64: {problem}") from None
        if min(self.size) < 1 or len(flat) != self.size[0] * self.size[1] * 3:
            raise ValueError(
                f"{len(flat)} bytes are not the pixels of a picture of {self.size[0]} x {self.size[1]}"
            )
        return flat.reshape(*self.size, 3)

    def svg(self) -> str:
        """Draw the maps."""
        words = {name: getattr(self, name) for name in ("title", "unit", "lead", "outlines", "under")}
        return head_maps_svg(
            np.array(self.maps, float), self.rows, self.columns, pixels=self._colours(), **words
        )


Picture = Heatmap | Bars | Curves | Scatter | HeadMaps


def _made(kind: type[P], **parts: Any) -> P:
    """The picture, or a `ShapeError` that says what does not fit."""
    try:
        return msgspec.convert(parts, kind)
    except msgspec.ValidationError as problem:
        raise ShapeError(
            f"{kind.__name__.lower()}: {problem}",
            hint="give text for titles and labels, and numbers for values",
        ) from None


def _rows(points: Iterable[Iterable[float]]) -> list[list[Number]]:
    return [[_known(value) for value in row] for row in points]


def _known(value: float | None) -> Number:
    return float(value) if value is not None and math.isfinite(value) else None


def _nan(value: Number) -> float:
    return math.nan if value is None else value


def _check(picture: Drawn, marks: int, values: Iterable[Number], *, least: int = 0) -> None:
    """Refuse what could not be drawn, when it is made or read rather than when it is shown."""
    kind = type(picture).__name__.lower()
    if not least <= marks <= MOST_MARKS:
        raise ValueError(f"{kind} has {marks:,} finite marks; expected {least} to {MOST_MARKS:,}")
    large = next((v for v in values if v is not None and abs(v) > LARGEST), None)
    if large is not None:
        raise ValueError(f"{kind} has the value {large:.3g}; numbers up to {LARGEST:g} are drawn")
