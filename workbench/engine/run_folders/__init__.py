"""Runs that are on disk: which there are, what became of each, again, compared, tidied. Nothing here loads torch."""
