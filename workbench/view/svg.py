"""Pictures that need no script: heatmaps, curves, scatters, bars and circuits as SVG text."""

from __future__ import annotations

from workbench.view.bars import bars_svg
from workbench.view.circuit_svg import circuit_svg
from workbench.view.curve import curve_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.scatter import scatter_svg

__all__ = ["bars_svg", "circuit_svg", "curve_svg", "heatmap_svg", "scatter_svg"]
