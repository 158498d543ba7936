"""From evidence to verdicts: where the lines are, how each question is decided; no torch."""
