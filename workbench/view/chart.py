"""What charts have in common, once: the SVG element, title, margins, axes, ticks, legends. Words are escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.core.errors import OptionError
from workbench.view.text import escape, number, printable, shorten

FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
COLORS = ("#256bad", "#cd631a", "#3a8f5c", "#8e5bb5", "#a08a1a", "#c24a6e", "#4a9ba8", "#6b7280")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
MARKS = (
    '<circle r="3.4"/>',
    '<rect x="-3" y="-3" width="6" height="6"/>',
    '<path d="M0-4L4 3H-4Z"/>',
    '<path d="M0-4L4 0L0 4L-4 0Z"/>',
)
LARGEST = 1e300  # of a number on an axis: beyond it differences overflow
LINE = 18  # height of a line of text
TITLE = 1.35  # width of a letter of the title beside one at 11 px: 14 px, and bold
# t: title, b: bold, s: said in passing, g: grid, r: reference. The colour is that of the page's text, light or dark.
_STYLE = (
    ".wb-chart text{fill:currentColor}.wb-chart .t{font-size:14px;font-weight:600}.wb-chart .b{font-weight:600}"
    ".wb-chart .s{opacity:.75}.wb-chart .g{stroke:currentColor;stroke-opacity:.15;fill:none}"
    ".wb-chart .r{stroke:currentColor;stroke-opacity:.6;stroke-dasharray:3 3;fill:none}"
)
Ticks = Sequence[tuple[float, str]]
Place = Callable[[float], float]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


PHONE = 480  # points: a wider picture is not made smaller than this on a phone, where its section scrolls


def svg(
    kind: str,
    parts: Iterable[str],
    *,
    size: tuple[float, float],
    title: str,
    about: str = "",
    style: str = "",
    corner: tuple[float, float] = (0, 0),
) -> str:
    """Return a self-contained SVG without script that is never wider than its place on the page.

    Args:
        kind: Which chart it is: its class is ``wb-KIND``.
        title, about: What a screen reader says, and a pointer that rests on it shows.
        corner: What stands at the upper left.
    """
    wide, high = (f"{n:.0f}" for n in size)
    described = f"<desc>{escape(about)}</desc>" if about else ""
    names = f"wb-chart wb-{kind}{' wb-wide' if size[0] > PHONE else ''}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{names}" role="img" '
        f'viewBox="{corner[0]:.0f} {corner[1]:.0f} {wide} {high}" width="{wide}" height="{high}" '
        f'font-family="{FONT}" font-size="11" style="max-width:100%;height:auto">'
        f"{tooltip(title or kind)}{described}<style>{_STYLE}{style}</style>{''.join(parts)}</svg>"
    )


def words(
    text: str, x: float, y: float, *, at: str = "start", kind: str = "", turn: int = 0, tip: str = ""
) -> str:
    """Return a line of text. ``at`` says whether it starts, has its middle, or ends there; ``turn`` is in degrees."""
    if not text:
        return ""
    place = f'transform="translate({x:.1f} {y:.1f}) rotate({turn})"' if turn else f'x="{x:.1f}" y="{y:.1f}"'
    anchor = f' text-anchor="{at}"' if at != "start" else ""
    named = f' class="{kind}"' if kind else ""
    return f"<text {place}{anchor}{named}>{escape(text)}{tooltip(tip) if tip else ''}</text>"


def tooltip(text: str) -> str:
    """Say what is shown while a pointer rests on a mark."""
    return f"<title>{escape(text)}</title>"


def path(d: str, kind: str) -> str:
    """Return a line of the frame: of the grid (``g``) or a reference (``r``)."""
    return f'<path class="{kind}" d="{d}"/>'


def text_width(text: str) -> float:
    """Return a rough width in pixels at 11 px; wide scripts count double."""
    return sum(12.0 if ord(c) > 0x2E80 else 6.4 for c in text)


def fitted(text: str, width: float, *, scale: float = 1.0) -> str:
    """Return the text, or as much of its beginning as fits a width, with an ellipsis."""
    text = printable(text)
    most = len(text)
    while most > 1 and text_width(shorten(text, most)) * scale > width:
        most -= 1
    return shorten(text, most)


def wrapped(text: str, width: float, *, scale: float = 1.0, most: int = 0) -> list[str]:
    """Return lines of whole words that fit a width; with ``most``, the last of so many ends in an ellipsis."""
    lines: list[str] = []
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (text_width(longer) * scale <= width or len(lines) == most):
            lines[-1] = longer
        else:
            lines.append(word)
    return [fitted(line, width, scale=scale) for line in lines]


def heading(title: str, width: float) -> tuple[list[str], float]:
    """Return the title in two lines, the second of which may be empty, and the height that it takes."""
    lines = wrapped(title, width - 24, scale=TITLE, most=2)
    both = [*lines, "", ""][:2]  # no word of it changes the elements of the picture
    texts = [
        f'<text class="t" x="12" y="{22 + LINE * i}">{escape(line)}</text>' for i, line in enumerate(both)
    ]
    return texts if title else [], 24.0 + LINE * len(lines)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The range of one axis, in powers of ten where it is logarithmic.

    Attributes:
        zero: A logarithmic axis has a place for zero, and what is below it, before its beginning.
    """

    label: str = ""
    low: float
    high: float
    log: bool = False
    zero: bool = False

    @classmethod
    def of(cls, values: Sequence[float], label: str = "", *, log: bool = False, room: float = 0.0) -> Axis:
        """Return the axis that has room for some values, and for a share of their range beside them.

        Raises:
            OptionError: for a value whose difference to another would overflow.
        """
        low, high = axis_range(values)
        if not log:
            more = room * (high - low)
            return cls(label=label, low=low - more, high=high + more)
        positive = [math.log10(max(v, 1e-290)) for v in values if v > 0] or [0.0]
        low, high = min(positive), max(positive)
        return cls(
            label=label, low=low, high=high if high > low else low + 1, log=True, zero=min(values) <= 0
        )

    def place(self, start: float, end: float) -> Place:
        """Return the function from a value to pixels between two ends."""
        first = start + math.copysign(30, end - start) if self.zero else start

        def at(value: float) -> float:
            if self.log and value <= 0:
                return start
            value = math.log10(max(value, 1e-290)) if self.log else value
            return first + (end - first) * (value - self.low) / (self.high - self.low)

        return at

    def ticks(self, most: int = 6) -> Ticks:
        """Return round numbers on the axis with what they are called."""
        if not self.log:
            return round_ticks(self.low, self.high, most)
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        every = [(k, m) for k in powers for m in (1, 2, 5)]
        inside = [(k, m) for k, m in every if self.low - 1e-9 <= k + math.log10(m) <= self.high + 1e-9]
        if len(inside) > most:
            inside = [(k, m) for k, m in inside if m == 1]
            inside = inside[:: max(1, math.ceil(len(inside) / most))]
        found = [(10.0**k * m, number(10.0**k * m)) for k, m in inside]
        return [(0.0, "0"), *found] if self.zero else found

    def ticks_along(self, length: float) -> Ticks:
        """Return as many ticks as stand beside each other in so many pixels, and no fewer than two."""
        tried = [self.ticks(most) for most in (9 if self.log else 6, 5, 4, 3)]
        several = [found for found in (*tried, tried[2][::2]) if len(found) > 1]
        beside = (found for found in several if sum(text_width(text) + 10 for _, text in found) <= length)
        return next(beside, (several or tried)[-1])


def axis_range(values: Iterable[float]) -> tuple[float, float]:
    """Return the least and largest of the finite values, apart even where all are equal.

    Raises:
        OptionError: for a value whose difference to another would overflow.
    """
    finite = [v for v in values if math.isfinite(v)]
    low, high = min(finite), max(finite)
    size = max(abs(low), abs(high))
    if size > LARGEST:
        raise OptionError(
            f"{size:.3g} is too large for an axis; numbers up to {LARGEST:g} are drawn",
            hint="divide the values, and say so in the unit of the axis",
        )
    if high - low > max(1e-12 * size, 1e-290):  # less than that is rounding, and cannot be divided by
        return low, high
    half = 0.5 if size < 1e9 else 1e-6 * size
    return low - half, high + half


def round_ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Return round numbers between low and high, 1, 2 or 5 times a power of ten apart.

    Example:
        >>> [text for _, text in round_ticks(-1, 1, 4)], [text for _, text in round_ticks(0, 3e-9, 3)]
        (['−1.0', '−0.5', '0.0', '0.5', '1.0'], ['0', '1e−9', '2e−9', '3e−9'])
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, _tick(k * step, step)) for k in range(first, last + 1)]


def _tick(value: float, step: float) -> str:
    """A number with the decimals that its distance to the next asks for."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals <= 4 and abs(value) < 1e7:
        return f"{value:,.{decimals}f}".replace("-", "−")
    if value == 0:
        return "0"
    digits = max(0, math.floor(math.log10(abs(value)) + 1e-9) - math.floor(math.log10(step) + 1e-9))
    mantissa, power = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(power)}".replace("-", "−")


def grid(x: Ticks, y: Ticks, to_x: Place, to_y: Place, box: Box) -> Iterator[str]:
    """Return lines at the ticks of both axes, with their numbers to the left and below."""
    left, top, right, bottom = box
    for value, text in y:
        yield path(f"M{left:.0f} {to_y(value):.1f}H{right:.0f}", "g")
        yield words(text, left - 6, to_y(value) + 4, at="end")
    for value, text in x:
        yield path(f"M{to_x(value):.1f} {top:.0f}V{bottom:.0f}", "g")
        yield words(text, to_x(value), bottom + 15, at="middle")


def axis_labels(
    x_label: str, y_label: str, box: Box, *, below: float = 32, left: float = 15
) -> Iterator[str]:
    """Say what the axes are of: below the ticks, and turned at the left edge."""
    wide, high = box[2] - box[0], box[3] - box[1]
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    if x_label:
        yield words(fitted(x_label, wide + 100, scale=0.9), middle[0], box[3] + below, at="middle")
    if y_label:
        yield words(fitted(y_label, high + 60, scale=0.9), left, middle[1], at="middle", turn=-90)


def legend_height(n: int, columns: int = 3) -> float:
    """Return the pixels that the names of so many series take."""
    return LINE * math.ceil(n / columns)


def legend(
    names: Sequence[str], left: float, right: float, top: float, *, columns: int = 3, marks: bool = True
) -> Iterator[str]:
    """Return the names of series with their colours, dashes and marks, some in each line."""
    wide = (right - left) / columns
    for i, name in enumerate(names):
        x, y = left + wide * (i % columns), top + LINE * (i // columns)
        yield f'<path d="M{x:.0f} {y - 4:.0f}h24" stroke="{color(i)}" stroke-width="2"{dash(i, marks=marks)}/>'
        if marks:
            yield f'<g fill="{color(i)}" transform="translate({x + 12:.0f} {y - 4:.0f})">{mark(i)}</g>'
        yield words(fitted(name, wide - 34, scale=0.9), x + 30, y)


def color(i: int) -> str:
    """Return the colour of a series."""
    return COLORS[i % len(COLORS)]


def mark(i: int) -> str:
    """Return the mark of a series, around the origin."""
    return MARKS[i % len(MARKS)]


def dash(i: int, *, marks: bool = True) -> str:
    """Return the dashes of a series, as an attribute; without marks only where the colours come again."""
    found = DASHES[i % len(DASHES)] if marks else "4 2" if i >= len(COLORS) else ""
    return f' stroke-dasharray="{found}"' if found else ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The plane of a chart with two axes: where numbers lie in it, and what stands around it.

    Attributes:
        size: Of the whole picture in pixels.
        names: Series of the legend under the picture.
        left, right: Margins; the left one has room for the numbers of the axis where it is not given.
    """

    size: tuple[float, float]
    x: Axis
    y: Axis | None = None
    title: str = ""
    names: Sequence[str] = ()
    left: float = 0.0
    right: float = 18.0

    @cached_property
    def box(self) -> Box:
        """The plane: left, top, right, bottom."""
        wide, high = self.size
        top = heading(self.title, wide)[1] if self.title else 18.0
        bottom = high - 50 - legend_height(len(self.names))
        numbers = max((text_width(text) for _, text in self.y.ticks()), default=0) if self.y else 0
        return self.left or max(64.0, 34 + numbers), top, wide - self.right, bottom

    @cached_property
    def to_x(self) -> Place:
        inset = 8 if self.y else 0  # marks at the ends stay inside
        return self.x.place(self.box[0] + inset, self.box[2] - inset)

    @property
    def upright(self) -> Axis:
        """The axis at the left.

        Raises:
            OptionError: if the chart has none.
        """
        if self.y is None:
            raise OptionError(
                f"the chart of {self.x.label!r} has one axis; this needs two",
                hint="make the chart with y=Axis(...)",
            )
        return self.y

    @cached_property
    def to_y(self) -> Place:
        return self.upright.place(self.box[3], self.box[1])

    def point(self, x: float, y: float) -> str:
        """Return a point in pixels."""
        return f"{self.to_x(x):.1f},{self.to_y(y):.1f}"

    def dot(self, i: int, x: float, y: float, tip: str) -> str:
        """Return the mark of a series at a point, with a tooltip."""
        return f'<g transform="translate({self.point(x, y)})">{mark(i)}{tooltip(tip)}</g>'

    def level(self, name: str, y: float) -> str:
        """Return a dashed line at a height, with its name."""
        left, _, right, _ = self.box
        named = words(name, right - 4, self.to_y(y) - 4, at="end", kind="s")
        return path(f"M{left:.0f} {self.to_y(y):.1f}H{right:.0f}", "r") + named

    def svg(self, kind: str, marks: Iterable[str]) -> str:
        """Return the chart with these marks in its plane."""
        box, y = self.box, self.y
        rows, to_y = (y.ticks(), self.to_y) if y else ((), abs)
        below = self.size[1] - legend_height(len(self.names)) + 8
        parts = [
            *heading(self.title, self.size[0])[0],
            *grid(self.x.ticks_along(box[2] - box[0]), rows, self.to_x, to_y, box),
            *axis_labels(self.x.label, y.label if y else "", box),
            *marks,
            *legend(self.names, box[0], box[2], below),
        ]
        return svg(kind, parts, size=self.size, title=self.title or (y or self.x).label)
