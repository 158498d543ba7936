"""How results show themselves: terminal, SVG, HTML, plots. Nothing here imports torch."""
