"""Circuits, scores and effects as data: addresses, graphs, files, comparisons, verdicts; no torch."""
