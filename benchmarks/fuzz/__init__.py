"""Files damaged on purpose, by the thousand, and what the workbench makes of each: ``python -m benchmarks.fuzz``."""
