"""Parquet files of others: how large a table becomes is known before a page of it is unpacked.

The footer says how many rows there are, and the header in front of each page how large the page becomes. Both are
read and added up; a file of a few kilobytes can otherwise become gigabytes. Page headers are Thrift's compact protocol
(https://parquet.apache.org/docs/file-format/metadata).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from workbench.core.bounds import in_words, open_regular, require_regular
from workbench.core.errors import RunError, WorkbenchError, explaining

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MOST_FILE = 4_000_000_000  # bytes
_SMALL = 64_000_000  # bytes that any table may take
_RATIO = 50  # and beyond that, how many times the file; noise is packed 1.1 times, our tables up to 8 times
_MOST_HEADER = (
    1 << 16
)  # bytes of a page's header; ours have about 100, with statistics of a long text some 1,000
_WIDTH = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
_MOST_DEPTH = 8


def read_table(
    path: str | os.PathLike[str], *, what: str, error: type[WorkbenchError] = RunError, hint: str = ""
) -> pa.Table:
    """Return the whole table of a file, its page checksums verified.

    Args:
        what: What such a file is called in messages: ``a table of effects``.

    Raises:
        WorkbenchError: of the type ``error``, if it is no regular file, damaged, or unpacks to far more than it has.
    """
    import pyarrow.parquet as pq

    bound = _Bound(path=path, size=require_regular(path, most_bytes=MOST_FILE, error=error), error=error)
    with explaining(f"{path} is not a whole {what.removeprefix('a ')}", error=error, hint=hint):
        texts = _check(bound, pq.read_metadata(path))
        # texts as a dictionary: one of a megabyte that a million rows repeat stays a megabyte
        table = pq.read_table(path, page_checksum_verification=True, read_dictionary=texts)
        return _plain(bound, table, pq.read_schema(path))


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """The most bytes that a file may become; what repeats is written once, so it goes by the size of the file."""

    path: str | os.PathLike[str]
    size: int
    error: type[WorkbenchError]

    def check(self, found: int, what: str) -> None:
        """Do nothing if so many bytes may be taken."""
        most = max(_SMALL, _RATIO * self.size)
        if found > most:
            raise self.error(
                f"{self.path} has {in_words(self.size)} and unpacks to {in_words(found)} of {what}; "
                f"at most {in_words(most)} is read",
                hint="name another table: no command of the workbench writes such a one",
            )


def _check(bound: _Bound, footer: pq.FileMetaData) -> list[str]:
    """Names of the columns of text, after pages and values were added up."""
    pages = values = 0
    texts = []
    with open_regular(bound.path, error=bound.error) as source:
        for g in range(footer.num_row_groups):
            group = footer.row_group(g)
            for c in range(group.num_columns):
                chunk = group.column(c)
                pages += sum(unpacked for unpacked, _ in _pages(source, chunk))
                is_text = chunk.physical_type == "BYTE_ARRAY"
                if (is_text and "." in chunk.path_in_schema) or not (
                    is_text or chunk.physical_type in _WIDTH
                ):
                    raise ValueError(
                        f"a column {chunk.path_in_schema!r:.80} of a type that no table of ours has"
                    )
                values += max(0, chunk.num_values) * _WIDTH.get(chunk.physical_type, 8)
                texts += [chunk.path_in_schema] if is_text else []
    bound.check(values, "values")
    bound.check(pages, "pages")
    return sorted(set(texts))


def _plain(bound: _Bound, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with columns of the types that they were written with."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, (kind, own) in enumerate(zip(table.schema.types, schema.types, strict=True)):
        if not pa.types.is_dictionary(kind) or pa.types.is_dictionary(own):
            continue
        for part in table.column(i).chunks:
            bound.check(
                pc.sum(pc.take(pc.binary_length(part.dictionary), part.indices)).as_py() or 0, "texts"
            )
        table = table.set_column(i, schema.field(i), table.column(i).cast(own))
    return table


def _pages(source: BinaryIO, chunk: pq.ColumnChunkMetaData) -> Iterator[tuple[int, int]]:
    """Unpacked and packed size of every page of a column, from the headers in front of them.

    Raises:
        ValueError: for a header that cannot be read, or a size that is negative.
    """
    starts = [chunk.data_page_offset, *([chunk.dictionary_page_offset] if chunk.has_dictionary_page else [])]
    at, left = min(starts), chunk.total_compressed_size
    if at < 0 or left < 0:
        raise ValueError("a column lies before the file begins")
    while left > 0:
        source.seek(at)
        header = _Header(source.read(_MOST_HEADER))
        unpacked, packed = header.sizes()
        if unpacked < 0 or packed < 0:
            raise ValueError("a page has a negative size")
        yield unpacked, packed
        at, left = at + header.at + packed, left - header.at - packed


class _Header:
    """One page header: fields 2 and 3 of a Thrift structure are the sizes, the rest is stepped over."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def sizes(self) -> tuple[int, int]:
        """Unpacked and packed size; afterwards ``at`` is where the page begins."""
        found: dict[int, int] = {}
        self._structure(found, 0)
        if 2 not in found or 3 not in found:
            raise ValueError("a page does not say how large it is")
        return found[2], found[3]

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("a page's header is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 70:
                raise ValueError("a number in a page's header does not end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _structure(self, found: dict[int, int], depth: int) -> None:
        if depth > _MOST_DEPTH:
            raise ValueError("a page's header nests too deeply")
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 0x0F
            field = field + delta if delta else self._zigzag()
            if kind in (4, 5, 6):  # whole numbers
                found[field] = self._zigzag()
            else:
                self._skip(kind, depth)

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (1, 2):  # a truth value, in the head itself
            return
        if kind == 3:
            self._byte()
        elif kind in (4, 5, 6):
            self._varint()
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            length = self._varint()
            self.at += length
        elif kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self.data):
                raise ValueError("a list in a page's header is longer than the header")
            for _ in range(count):
                self._skip(head & 0x0F if head & 0x0F != 1 else 3, depth + 1)
        elif kind == 12:
            self._structure({}, depth + 1)
        else:
            raise ValueError(f"a page's header has a field of kind {kind}")


__all__ = ["read_table"]
