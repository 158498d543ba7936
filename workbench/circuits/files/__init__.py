"""Circuit files in and out, and the formats of others. Nothing here imports torch."""

from __future__ import annotations

from workbench.circuits.files.circuit_file import load_circuit, save_circuit
from workbench.circuits.files.eap_ig import from_eap_ig, scores_from_eap_ig
from workbench.circuits.files.export import FORMATS, export
from workbench.circuits.files.scores_file import load_scores, save_scores
from workbench.core.atomic import write_atomic

__all__ = [
    "FORMATS",
    "export",
    "from_eap_ig",
    "load_circuit",
    "load_scores",
    "save_circuit",
    "save_scores",
    "scores_from_eap_ig",
    "write_atomic",
]
