"""``annotations.json``: what a reader wrote on a circuit, beside its file; the circuit's digest stays."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.circuits.annotations import Annotations, check_annotations
from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import FILE_NAME as CIRCUIT_NAME
from workbench.circuits.files.circuit_file import circuit_path
from workbench.core.atomic import file_at
from workbench.core.errors import CircuitError
from workbench.core.file_kind import FileKind
from workbench.core.typed import as_json

FILE_NAME = "annotations.json"
MOST_BYTES = 20_000_000
ANNOTATIONS = FileKind(
    format="circuit-workbench/annotations",
    content=Annotations,
    what="annotations of a circuit",
    error=CircuitError,
    by_hand=True,
    again="the page of a circuit saves such a file",
)


def save_annotations(found: Annotations, path: str | os.PathLike[str]) -> Path:
    """Write annotations; a path without ``.json`` is a folder: its ``annotations.json``."""
    return ANNOTATIONS.save(as_json(found), file_at(path, FILE_NAME))


def load_annotations(path: str | os.PathLike[str], circuit: Circuit) -> Annotations:
    """Read annotations of a circuit; a page's download is of version 1, which has no digest.

    Raises:
        CircuitError: if the file cannot be read, is too large, or names what the circuit's architecture does not have.
    """
    file = Path(path) / FILE_NAME if os.path.isdir(path) else Path(path)
    if file.is_file() and file.stat().st_size > MOST_BYTES:
        raise CircuitError(
            f"{file} has {file.stat().st_size:,} bytes; annotations have at most {MOST_BYTES:,}",
            hint="save it again from the page of the circuit",
        )
    try:
        found: Annotations = ANNOTATIONS.load(file).content
    except CircuitError as problem:
        hint = (
            problem.hint or "mend or take out this entry, or save the file again from the page of the circuit"
        )
        raise CircuitError(problem.message, hint=hint) from None
    check_annotations(found, circuit, str(file))
    return found


def find_annotations(path: str | os.PathLike[str], circuit: Circuit) -> Annotations | None:
    """Return the annotations beside a circuit file; None where there are none.

    Raises:
        CircuitError: if they cannot be read, or are of another architecture.
    """
    file = circuit_path(path)
    beside = file.parent / FILE_NAME
    return load_annotations(beside, circuit) if file.name == CIRCUIT_NAME and beside.is_file() else None


__all__ = ["ANNOTATIONS", "FILE_NAME", "find_annotations", "load_annotations", "save_annotations"]
