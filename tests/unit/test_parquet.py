"""Parquet tables are bounded before they are unpacked."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.circuits.files.parquet import read_table
from workbench.core.errors import RunError


def test_a_table_is_read_whole_and_as_it_is(tmp_path):
    table = pa.table({"a": list(range(10_000)), "b": [[1.5, None]] * 10_000}).replace_schema_metadata(
        {"k": "v"}
    )
    pq.write_table(table, tmp_path / "t.parquet", write_page_checksum=True)
    whole = pq.read_table(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", what="a table").equals(whole, check_metadata=True)


@pytest.mark.parametrize(
    ("column", "times"), [([0.0] * 1000, 1000), (["x" * 5000] * 1000, 100), ([[0.0] * 50] * 1000, 300)]
)
def test_few_kilobytes_that_unpack_to_gigabytes_are_refused(column, times, tmp_path):
    path, rows = tmp_path / "t.parquet", pa.table({"a": column})
    with pq.ParquetWriter(path, rows.schema) as writer:
        for _ in range(9):
            writer.write_table(pa.concat_tables([rows] * times))
    assert path.stat().st_size < 2_000_000
    with pytest.raises(RunError, match=r"unpacks to .* at most .* MB is read"):
        read_table(path, what="a table")


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(RunError, match="not a whole table"):
        read_table(tmp_path / "t.parquet", what="a table")
