"""How circuits and what is said of them show themselves: terminal, cards, pictures, the interactive page."""
