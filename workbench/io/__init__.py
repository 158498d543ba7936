"""Circuit files in and out. Nothing here imports torch."""

from __future__ import annotations

from workbench.io.atomic import write_atomic
from workbench.io.circuit_file import load_circuit, save_circuit

__all__ = ["load_circuit", "save_circuit", "write_atomic"]
