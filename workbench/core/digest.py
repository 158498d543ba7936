"""Digests over content: of a JSON document, of the columns of a table, of tensors.

A digest does not depend on how a file is laid out (spaces, order of keys, compression), only on what is in it.
``docs/formats.md`` says how to compute each without this library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.run_record import canonical_json
from workbench.core.typed import Count, Part, Sha256

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST = "digest"


class FileBlock(Part, frozen=True):
    """What a file holds beside its document: a column of a table, or a tensor."""

    type: str
    shape: list[Count]
    sha256: Sha256


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a document without its own ``digest``."""
    rest = {name: value for name, value in document.items() if name != DIGEST}
    return hashlib.sha256(canonical_json(rest).encode("ascii")).hexdigest()


def tensor_blocks(tensors: Mapping[str, np.ndarray]) -> dict[str, FileBlock]:
    """Type, shape and SHA-256 of the bytes of each tensor, row by row, little-endian."""
    return {name: _block(values) for name, values in tensors.items()}


def _block(values: np.ndarray) -> FileBlock:
    whole = np.ascontiguousarray(values)
    small = whole.astype(whole.dtype.newbyteorder("<"), copy=False)
    kind = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[small.dtype.kind]
    name = kind if kind == "BOOL" else f"{kind}{small.dtype.itemsize * 8}"
    # the shape of `values`: ascontiguousarray makes one dimension of none
    return FileBlock(type=name, shape=list(values.shape), sha256=_sha256(_bytes(small)))


def table_blocks(table: pa.Table, *, own: bytes) -> dict[str, FileBlock]:
    """Type, number of rows and SHA-256 of the values of every column, and of metadata under other keys than ours.

    Numbers are hashed as one byte per value that says whether it is there, then as little-endian bytes; lists
    as their lengths (-1: none) and then what is in them; texts and truth values as canonical JSON.

    Args:
        own: The key of the metadata that has the document, and with it the digest.

    Raises:
        ValueError: for a column of another type, which no file of ours has.
    """
    columns = {
        name: FileBlock(type=_type_name(column.type), shape=[len(column)], sha256=_column_sha256(column))
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    said = {key: text for key, text in (table.schema.metadata or {}).items() if key != own}
    return columns | {
        f"metadata {key.decode('utf-8')}": FileBlock(
            type="bytes", shape=[len(text)], sha256=_sha256(memoryview(text))
        )
        for key, text in said.items()
    }


def _type_name(kind: pa.DataType) -> str:
    """An Arrow type in words that do not depend on how Parquet names the elements of a list."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_type_name(kind.value_type)}"
    return _type_name(kind.value_type) if pa.types.is_dictionary(kind) else str(kind)


def _column_sha256(column: pa.ChunkedArray) -> str:
    digest = hashlib.sha256()
    _add_column(digest, column)
    return digest.hexdigest()


def _add_column(digest: Any, column: pa.ChunkedArray) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), -1)
        digest.update(_bytes(lengths.to_numpy().astype("<i8")))
        _add_column(digest, pc.list_flatten(column))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        there = column.is_valid().to_numpy()
        digest.update(_bytes(there.astype("u1")))
        filled = pc.fill_null(column, 0).to_numpy()
        digest.update(_bytes(filled.astype(filled.dtype.newbyteorder("<"), copy=False)))
    elif pa.types.is_dictionary(kind):
        _add_column(digest, column.cast(kind.value_type))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        digest.update(canonical_json(column.to_pylist()).encode("ascii"))
    elif pa.types.is_null(kind):
        digest.update(b"null")
    else:
        raise ValueError(f"a column of type {kind}")


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).data.cast("B") if values.size else memoryview(b"")


def _sha256(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


__all__ = ["DIGEST", "FileBlock", "document_digest", "table_blocks", "tensor_blocks"]
