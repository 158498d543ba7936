"""How the best parts are chosen from scores: one rule a file, each for the scores of every method. No torch here."""
