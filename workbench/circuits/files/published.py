"""Published circuits as circuit files: ``python -m workbench.circuits.published`` writes them."""

from __future__ import annotations

from pathlib import Path

from workbench.circuits.files.circuit_file import save_circuit
from workbench.circuits.published.records import RECORDS

FOLDER = Path("circuits") / "published"


def write_published(folder: Path = FOLDER) -> list[Path]:
    """Write ``<folder>/<name>/circuit.json`` for each, atomically; returns the paths."""
    return [save_circuit(record.circuit(), Path(folder) / record.name) for record in RECORDS]
