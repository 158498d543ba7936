"""Chance, in formulas, from arrays alone: intervals, tests, corrections for many tests; no torch."""
