"""``details.json``: what the page of a circuit shows of its heads and edges, beside the circuit's file."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.circuits.circuit import Circuit
from workbench.circuits.details import DetailsContent
from workbench.circuits.files.circuit_file import FILE_NAME as CIRCUIT_NAME
from workbench.circuits.files.circuit_file import circuit_path
from workbench.circuits.verdicts.judgement import circuit_digest
from workbench.core.atomic import file_at
from workbench.core.errors import CircuitError
from workbench.core.file_kind import FileKind
from workbench.core.typed import as_json

FILE_NAME = "details.json"
DETAILS = FileKind(
    format="circuit-workbench/details",
    content=DetailsContent,
    what="details of a circuit",
    error=CircuitError,
    again="to measure them again: workbench circuit details FOLDER",
)


FIRST = "resample"  # the ablation of details.json; other ablations have files of their own


def name_under(ablation: str) -> str:
    """Return the name of the file with effects under an ablation.

    Example:
        >>> name_under("resample"), name_under("mean")
        ('details.json', 'details-mean.json')
    """
    return FILE_NAME if ablation == FIRST else f"details-{ablation}.json"


def save_details(found: DetailsContent, path: str | os.PathLike[str]) -> Path:
    """Write details; a path without ``.json`` is a folder: its ``details.json``."""
    return DETAILS.save(as_json(found), file_at(path, FILE_NAME), indent=None)


def load_details(path: str | os.PathLike[str]) -> DetailsContent:
    """Read details, or the ones in a folder.

    Raises:
        CircuitError: if they are missing, cut off, of another format, or were changed.
    """
    return DETAILS.load(Path(path) / FILE_NAME if os.path.isdir(path) else path).content


def find_details(path: str | os.PathLike[str], circuit: Circuit) -> DetailsContent | None:
    """Return the details beside a circuit file; None where there are none.

    Raises:
        CircuitError: if they cannot be read, or are of another circuit.
    """
    file = circuit_path(path)
    beside = file.parent / FILE_NAME
    if file.name != CIRCUIT_NAME or not beside.is_file():
        return None
    found = load_details(beside)
    if found.circuit != circuit_digest(circuit):
        raise CircuitError(
            f"{beside} is of another circuit than the one beside it",
            hint=f"measure it: workbench circuit details {file.parent}",
        )
    return found


def find_other_details(path: str | os.PathLike[str], first: DetailsContent) -> list[DetailsContent]:
    """Return the effects under other ablations that lie beside the details of a circuit, by name of the ablation.

    Raises:
        CircuitError: if they cannot be read, or were measured on another circuit, metric or other pairs.
    """
    found = []
    for file in sorted(circuit_path(path).parent.glob("details-*.json")):
        other = load_details(file)
        for what in ("circuit", "metric", "unit"):
            _check_alike(file, what, getattr(other, what), getattr(first, what))
        for what in ("pairs", "weights"):
            _check_alike(file, what, other.provenance.get(what), first.provenance.get(what))
        found.append(other)
    return found


def _check_alike(file: Path, what: str, own: object, first: object) -> None:
    if own != first:
        raise CircuitError(
            f"{file} is of {what} {str(own)[:16]!r}, {FILE_NAME} beside it of {str(first)[:16]!r}",
            hint=f"measure it with the same options as {FILE_NAME}: workbench circuit details "
            f"{file.parent} --ablation {file.stem.removeprefix('details-')}; or remove the file",
        )


__all__ = [
    "DETAILS",
    "FILE_NAME",
    "FIRST",
    "find_details",
    "find_other_details",
    "load_details",
    "name_under",
    "save_details",
]
