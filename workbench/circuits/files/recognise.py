"""Which kind of file of ours a file is: by the format in its document or header, whatever its name."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from workbench.circuits.files.kinds import KINDS, kind_of
from workbench.core.bounds import open_regular, require_regular
from workbench.core.errors import WorkbenchError
from workbench.core.file_kind import FileKind

_FORMAT = re.compile(rb'"format"\s*:\s*"([^"\\]{1,200})"')
_BEGINNING = 4096
_MOST_HEADER = 16 << 20


def recognise(path: Path) -> FileKind | None:
    """Return the kind of file that this is; None for a file of somebody else, or one that has no format.

    Raises:
        WorkbenchError: if it cannot be read.
    """
    format = next((f for f in formats_in(path) if f in KINDS), None)
    kind = None if format is None else kind_of(format)
    # the table of a portrait says the format of the document that it was made from
    return kind if kind is not None and (path.suffix == ".json" or kind.has_blocks) else None


def formats_in(path: Path) -> Iterator[str]:
    """Return the formats that a file says it has, ours and those of plug-ins; none for a file that says none.

    Raises:
        WorkbenchError: if it cannot be read.
    """
    find = {".parquet": _of_parquet, ".safetensors": _of_safetensors}.get(path.suffix)
    if find is not None or path.suffix in (".json", ".jsonl"):
        yield from (find or _of_json)(path)


def _of_json(path: Path) -> Iterator[str]:
    """The formats that stand in the first lines: what we write says its format first."""
    with open_regular(path) as source:
        beginning = source.read(_BEGINNING)
    yield from _formats([beginning])


def _of_parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_regular(path)
    try:
        said = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise WorkbenchError(
            f"{path} is not a whole table: {str(problem)[:200]}",
            hint="the file was cut short or damaged: copy it again, or run the command that wrote it",
        ) from None
    for format in _formats(said.values()):
        # tables of heads of version 1 have the format of the portrait that they are of
        yield "circuit-workbench/heads-table" if format == "circuit-workbench/portrait" else format


def _of_safetensors(path: Path) -> Iterator[str]:
    with open_regular(path) as source:
        size = source.read(8)
        length = struct.unpack("<Q", size)[0] if len(size) == 8 else 0
        if not 2 <= length <= _MOST_HEADER:
            raise WorkbenchError(
                f"{path} is not a whole safetensors file",
                hint="the file was cut short or damaged: copy it again, or run the command that wrote it",
            )
        text = source.read(length)
    try:
        said = json.loads(text).get("__metadata__") or {}
        yield from _formats(value.encode() for value in said.values())
    except (ValueError, AttributeError, RecursionError) as problem:
        raise WorkbenchError(
            f"{path} has no header that can be read: {str(problem)[:200]}",
            hint="the file was cut short or damaged: copy it again, or run the command that wrote it",
        ) from None


def _formats(texts: Iterable[bytes]) -> Iterator[str]:
    """The formats of the JSON documents among some texts."""
    for text in texts:
        yield from (found.decode("utf-8", "replace") for found in _FORMAT.findall(text))


__all__ = ["formats_in", "recognise"]
