"""Circuit Workbench: open a transformer, find which parts do the work, save the answer as a graph."""
