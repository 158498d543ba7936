"""Pictures that need no script: heatmaps, curves and circuits as SVG text."""

from __future__ import annotations

from workbench.view.circuit_svg import circuit_svg
from workbench.view.curve import curve_svg
from workbench.view.heatmap import heatmap_svg

__all__ = ["circuit_svg", "curve_svg", "heatmap_svg"]
