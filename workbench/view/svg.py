"""Pictures that need no script: heatmaps, curves and circuits as SVG text."""

from __future__ import annotations

from workbench.view.heatmap import heatmap_svg

__all__ = ["heatmap_svg"]
