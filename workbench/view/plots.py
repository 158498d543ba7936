"""PNG pictures through matplotlib, imported only when one is asked for."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from workbench.core.errors import ShapeError
from workbench.view.chart import COLORS
from workbench.view.color import AMOUNT, NEGATIVE, POSITIVE, ColorScale, css, ink
from workbench.view.heatmap import cell_text, values_have_room
from workbench.view.text import printable


def heatmap_png(
    matrix: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str = "",
    unit: str = "",
    row_title: str = "",
    column_title: str = "",
    marks: np.ndarray | None = None,
    lead: str = "",
    notes: Sequence[str] = (),
    show_values: bool | None = None,
    scale: ColorScale | None = None,
    dpi: int = 150,
) -> bytes:
    """Return the PNG of what ``heatmap_svg`` shows: the same scale and numbers, NaN hatched, marked cells outlined.

    Raises:
        ShapeError: if labels and matrix do not fit.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(row_labels), len(column_labels)):
        raise ShapeError(
            f"the matrix has shape {matrix.shape}; labels are {len(row_labels)}, {len(column_labels)}",
            hint="give one label for each row and one for each column",
        )
    scale = scale or ColorScale.around_zero(matrix)
    stops = AMOUNT if scale.low == 0 else (*NEGATIVE[::-1], *POSITIVE[1:])
    colors = LinearSegmentedColormap.from_list("scale", [css(c) for c in stops])
    show = values_have_room(matrix) if show_values is None else show_values
    wide = min(24, max(2.4 + (0.46 if show else 0.32) * matrix.shape[1], 4.8))
    heading = _lines([title], wide * 8)  # characters of 12 points in a line of so many inches
    lines = _lines([lead, *notes], wide * 14)  # and of 7 points
    tall = min(24, 1.6 + 0.26 * matrix.shape[0] + 0.2 * len(heading[1:]))
    figure, axes = _figure(wide, tall + 0.13 * len(lines))
    axes.set_facecolor("#e8e8e6")
    axes.patch.set(hatch="////", edgecolor="#b4b4b0")
    image = axes.imshow(
        np.ma.masked_invalid(matrix), cmap=colors, vmin=scale.low, vmax=scale.high, aspect="auto"
    )
    axes.set_xticks(range(matrix.shape[1]), [_plain(c) for c in column_labels], rotation=60, ha="right")
    axes.set_yticks(range(matrix.shape[0]), [_plain(r) for r in row_labels])
    axes.set(title="\n".join(heading), xlabel=_plain(column_title), ylabel=_plain(row_title))
    figure.colorbar(image, label=_plain(unit), shrink=0.9)
    for (i, j), value in np.ndenumerate(matrix):
        if show and not np.isnan(value):
            text = cell_text(float(value), scale.high)
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=ink(scale.color(float(value))))
    widths = np.zeros(matrix.shape) if marks is None else marks
    for i, j in np.argwhere(np.nan_to_num(widths) > 0):
        frame = Rectangle(
            (j - 0.48, i - 0.48), 0.96, 0.96, fill=False, edgecolor="black", linewidth=float(widths[i, j])
        )
        axes.add_patch(frame)
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=7, ha="left", x=0.02)
    return _png(figure, dpi)


def curve_png(
    series: Mapping[str, Sequence[tuple[float, ...]]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    dpi: int = 150,
) -> bytes:
    """Return the PNG of what ``curve_svg`` shows; on a logarithmic axis, points at x <= 0 stand at a linear stub."""
    figure, axes = _figure(6.4, 4.0)
    for i, (name, points) in enumerate(series.items()):
        rows = sorted(tuple(p) for p in points)
        xs, ys = [p[0] for p in rows], [p[1] for p in rows]
        errors = [p[2] if len(p) > 2 and p[2] is not None else 0.0 for p in rows]
        style = {
            "color": COLORS[i % len(COLORS)],
            "marker": "os^D"[i % 4],
            "label": _plain(name),
            "capsize": 2,
        }
        axes.errorbar(xs, ys, yerr=errors if any(errors) else None, **style)
    if log_x:
        positive = [p[0] for points in series.values() for p in points if p[0] > 0]
        axes.set_xscale("symlog", linthresh=min(positive, default=1.0))
    axes.set(xlabel=_plain(x_label), ylabel=_plain(y_label), title=_plain(title))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return _png(figure, dpi)


def _figure(width: float, height: float):
    """A figure of its own, without pyplot: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure, dpi: int) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def _lines(texts: Sequence[str], most: float) -> list[str]:
    """Texts in lines of at most so many characters."""
    return [line for text in texts for line in textwrap.wrap(_plain(text), max(20, int(most)))]


def _plain(text: object) -> str:
    """Printable text that matplotlib takes for text: a dollar sign begins no formula."""
    return printable(str(text)).replace("$", r"\$")
