"""Circuit files in and out. Nothing here imports torch."""

from __future__ import annotations

from workbench.io.atomic import write_atomic
from workbench.io.circuit_file import load_circuit, save_circuit
from workbench.io.scores_file import load_scores, save_scores

__all__ = ["load_circuit", "load_scores", "save_circuit", "save_scores", "write_atomic"]
