"""Reading Parquet tables that somebody else may have made: bounded before and while they are unpacked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import RunError, WorkbenchError
from workbench.io.bounds import in_words, require_regular

if TYPE_CHECKING:
    import pyarrow as pa

# A value that repeats is written once: 7 kB unpacked to 2 GB. Measured numbers unpack to some 4 times their file.
_TIMES, _LEAST = 50, 64_000_000
_ROWS = 4096  # unpacked at a time


def read_table(path: Path, *, what: str, error: type[WorkbenchError] = RunError, hint: str = "") -> pa.Table:
    """The whole table of a file, its page checksums verified.

    Args:
        what: What such a file is called in messages: ``a table of effects``.

    Raises:
        WorkbenchError: of the type ``error``, if it is no regular file, damaged, or unpacks to far more than it has.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    most = max(_LEAST, _TIMES * require_regular(path, error=error))
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _refuse_larger(path, 8 * _values(file.metadata), most, error)
            batches, taken = [], 0
            for batch in file.iter_batches(_ROWS, use_threads=False):
                taken += batch.nbytes
                _refuse_larger(path, taken, most, error)
                batches.append(batch)
            return pa.Table.from_batches(batches, schema=file.schema_arrow)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as problem:
        raise error(
            f"{path} is not a whole {what.removeprefix('a ')}: {str(problem)[:200]}", hint=hint
        ) from None


def _values(metadata: object) -> int:
    """How many values the footer announces, over all columns and groups of rows."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return sum(group.column(j).num_values for group in groups for j in range(group.num_columns))


def _refuse_larger(path: Path, found: int, most: int, error: type[WorkbenchError]) -> None:
    size = os.path.getsize(path)
    if found > most:
        raise error(
            f"{path} has {in_words(size)} and unpacks to {in_words(found)} or more; at most {in_words(most)} is read",
            hint="no command writes such a table; ask whoever sent it",
        )


__all__ = ["read_table"]
