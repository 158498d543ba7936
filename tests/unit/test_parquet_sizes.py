"""Tables that would become far larger than their file: refused from footer and page headers, before unpacking."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.circuits.files.effects_file import load_effects
from workbench.circuits.files.parquet import _pages
from workbench.circuits.files.parquet import read_table as read
from workbench.core.errors import RunError, WorkbenchError


def read_table(path):
    return read(path, what="a table")


def write(table, path, **options):
    pq.write_table(table, path, write_page_checksum=True, **options)
    return path


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_what_page_headers_say_adds_up_to_the_footer(compression, version, tmp_path):
    """The footer's totals count page headers too, as the independent writer made them."""
    columns = {"x": np.random.default_rng(0).normal(size=5000), "name": [f"a{i}.h3" for i in range(5000)]}
    path = write(pa.table(columns), tmp_path / "t.parquet", compression=compression, data_page_version=version,
                 data_page_size=4000)  # fmt: skip
    footer = pq.read_metadata(path)
    with path.open("rb") as source:
        for c in range(2):
            chunk = footer.row_group(0).column(c)
            pages = list(_pages(source, chunk))
            headers = chunk.total_compressed_size - sum(packed for _, packed in pages)
            assert len(pages) > 2 and 0 < headers < 200 * len(pages)
            assert sum(unpacked for unpacked, _ in pages) + headers == chunk.total_uncompressed_size


def test_a_table_is_read_as_it_was_written(tmp_path):
    columns = {
        "label": [f"a{i}.h{i % 7}" for i in range(3000)],
        "n": np.arange(3000),
        "per_pair": [[float(i), 0.5] for i in range(3000)],
        "some": [None if i % 3 else "x" for i in range(3000)],
    }
    path = write(pa.table(columns), tmp_path / "t.parquet", compression="zstd")
    assert read_table(path).equals(pq.read_table(path))


@pytest.mark.parametrize(
    ("piece", "times", "words"),
    [
        (pa.array(np.zeros(100_000)), 300, "unpacks to 240 MB of values"),
        (pa.array(["y" * 100_000] * 100), 200, "unpacks to 2 GB of texts"),
    ],
    ids=["values", "texts"],
)
def test_kilobytes_do_not_become_gigabytes(piece, times, words, tmp_path):
    """The column is one small piece over and over, so that writing it needs no gigabytes either."""
    path = write(
        pa.table({"x": pa.chunked_array([piece] * times)}), tmp_path / "effects.parquet", compression="zstd"
    )
    assert path.stat().st_size < 400_000
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    for reader in (read_table, load_effects):
        with pytest.raises(WorkbenchError, match=words):
            reader(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 20_000_000


def test_a_page_that_becomes_larger_than_the_footer_says_is_refused(tmp_path):
    """The packed page of zeros becomes 400 MB; the footer, changed, says a few bytes."""
    path = write(pa.table({"x": np.zeros(50_000_000)}), tmp_path / "t.parquet", compression="zstd",
                 use_dictionary=False, data_page_size=10**9)  # fmt: skip
    with pytest.raises(RunError, match="unpacks to 400 MB of"):
        read_table(path)


def test_columns_of_types_that_we_never_write_are_refused(tmp_path):
    for column in (pa.array([["a"], ["b"]]), pa.array([b"abc", b"def"], pa.binary(3))):
        path = write(pa.table({"x": column}), tmp_path / "t.parquet")
        with pytest.raises(RunError, match="of a type that no table of ours has"):
            read_table(path)


@pytest.mark.parametrize("keep", [0, 3, 12, 200, -1, -9])
def test_a_table_that_is_cut_off_is_explained(keep, tmp_path):
    path = write(pa.table({"x": np.arange(1000.0)}), tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match="is not a whole table"):
        read_table(path)


def test_any_damaged_byte_is_refused_or_read_as_the_library_reads_it(tmp_path):
    """What a page header says is only added up: no byte of it may end in another kind of error."""
    good = write(pa.table({"x": np.arange(50.0), "s": ["ab"] * 50}), tmp_path / "t.parquet").read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(good)
        data[draw.integers(len(data))] = draw.integers(256)
        (tmp_path / "d.parquet").write_bytes(data)
        try:
            found = read_table(tmp_path / "d.parquet")
        except RunError:
            continue
        assert found.equals(pq.read_table(tmp_path / "d.parquet"))
