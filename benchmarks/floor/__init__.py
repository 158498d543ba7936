"""The floor: plain torch that computes the same numbers with the least work, nothing of the workbench in it."""
