"""How portraits of heads show themselves: terminal, cards, the interactive atlas."""
