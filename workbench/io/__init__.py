"""Circuit files in and out, and the formats of others. Nothing here imports torch."""

from __future__ import annotations

from workbench.io.atomic import write_atomic
from workbench.io.circuit_file import load_circuit, save_circuit
from workbench.io.eap_ig import from_eap_ig, scores_from_eap_ig
from workbench.io.export import FORMATS, export
from workbench.io.scores_file import load_scores, save_scores

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
