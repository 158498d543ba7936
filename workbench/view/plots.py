"""PNG pictures through matplotlib, imported only when one is asked for."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from workbench.errors import ShapeError
from workbench.view.color import NEGATIVE, POSITIVE, css, limit
from workbench.view.curve import COLORS
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
    dpi: int = 150,
) -> bytes:
    """The PNG of what ``heatmap_svg`` shows: one scale centred at zero, NaN hatched.

    Raises:
        ShapeError: if labels and matrix do not fit.
    """
    from matplotlib.colors import LinearSegmentedColormap

    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(row_labels), len(column_labels)):
        raise ShapeError(
            f"the matrix has shape {matrix.shape}; labels are {len(row_labels)}, {len(column_labels)}"
        )
    top = limit(matrix)
    scale = LinearSegmentedColormap.from_list("signed", [css(c) for c in (*NEGATIVE[::-1], *POSITIVE[1:])])
    size = (2.4 + 0.32 * matrix.shape[1], 1.6 + 0.26 * matrix.shape[0])
    figure, axes = _figure(min(size[0], 24), min(size[1], 24))
    axes.set_facecolor("#e8e8e6")
    axes.patch.set(hatch="////", edgecolor="#b4b4b0")
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap=scale, vmin=-top, vmax=top, aspect="auto")
    axes.set_xticks(range(matrix.shape[1]), [_plain(c) for c in column_labels], rotation=60, ha="right")
    axes.set_yticks(range(matrix.shape[0]), [_plain(r) for r in row_labels])
    axes.set(title=_plain(title), xlabel=_plain(column_title), ylabel=_plain(row_title))
    figure.colorbar(image, label=_plain(unit), shrink=0.9)
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
    """The PNG of what ``curve_svg`` shows; on a logarithmic axis, points at x <= 0 stand at a linear stub."""
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


def _plain(text: object) -> str:
    """Printable text that matplotlib takes for text: a dollar sign begins no formula."""
    return printable(str(text)).replace("$", r"\$")
