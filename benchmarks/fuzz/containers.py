"""Damage inside containers that stay valid: safetensors headers, Parquet tables and footers, members of zip files."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import Any

from benchmarks.fuzz.damage import BYTES, Rng, document, flip_bits


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _joined(header: str, body: bytes, length: int | None = None) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def safetensors(data: bytes, rng: Rng) -> bytes:
    """The header changed as JSON, or the JSON within its metadata, or its length; the values stay as they were."""
    header, body = _split(data)
    what = rng.randrange(8)
    if what == 0:
        wrong = rng.choice((0, 1, 8, len(data), 1 << 20, 1 << 40, (1 << 64) - 1))
        return _joined(json.dumps(header), body, wrong)
    if what == 1:
        return _joined(json.dumps(header), flip_bits(body, rng))
    told = [k for k, v in header.get("__metadata__", {}).items() if v[:1] in ("{", "[")]
    if told and what < 5:
        key = rng.choice(told)
        header["__metadata__"][key] = document(json.loads(header["__metadata__"][key]), rng)
        header["__metadata__"][key] = header["__metadata__"][key].encode("utf-8", "replace").decode("utf-8")
        return _joined(json.dumps(header), body)
    tensors = [k for k in header if k != "__metadata__"]
    if tensors and what == 5:
        entry = header[rng.choice(tensors)]
        entry["dtype"] = rng.choice(("F16", "BF16", "I32", "I64", "F8_E4M3", "BOOL", "F64", "F32", "X", "U8"))
        return _joined(json.dumps(header), body)
    if tensors and what == 6:
        entry = header[rng.choice(tensors)]
        entry["shape"] = rng.choice((entry["shape"][::-1], [1, *entry["shape"]], [0], [-1], [1 << 40], []))
        return _joined(json.dumps(header), body)
    return _joined(document(header, rng), body)


def zip_members(data: bytes, rng: Rng) -> bytes:
    """A zip file whose members are damaged, missing, doubled or renamed, with checksums that fit."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = [(info.filename, source.read(info)) for info in source.infolist()]
    i, what = rng.randrange(len(members)), rng.randrange(6)
    name, content = members[i]
    if what == 0:
        del members[i]
    elif what == 1:
        members[i] = (rng.choice((name + "x", name.upper(), "../" + name, "/" + name)), content)
    elif what == 2:
        j = rng.randrange(len(members))
        members[i], members[j] = (name, members[j][1]), (members[j][0], content)
    else:
        wanted = [k for k, (n, _) in enumerate(members) if n.endswith("data.pkl")] if what == 3 else [i]
        i = wanted[0] if wanted else i
        members[i] = (members[i][0], rng.choice(BYTES)(members[i][1], rng))
    out = io.BytesIO()
    how = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", how) as target:
        for name, content in members:
            target.writestr(zipfile.ZipInfo(name), content, compress_type=how)
    return out.getvalue()


def parquet(data: bytes, rng: Rng) -> bytes:
    """A Parquet file whose metadata, columns, types, values or rows are others, written whole by its own library."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data), use_threads=False)
    what = rng.randrange(10)
    if what < 4:
        table = _other_metadata(table, rng)
    elif what < 7:
        table = _other_values(table, rng)
    elif what == 7:
        table = _other_columns(table, rng)
    elif what == 8:
        order = rng.choice(
            (range(table.num_rows - 1), range(table.num_rows - 1, -1, -1), [0] * table.num_rows)
        )
        table = rng.choice((table.take(list(order)), pa.concat_tables([table, table]), table.slice(0, 0)))
    elif rng.random() < 0.2:
        return _bomb(table)
    out = io.BytesIO()
    pq.write_table(
        table, out, compression=rng.choice(("zstd", "none", "snappy")), write_page_checksum=rng.random() < 0.5
    )
    return out.getvalue()


def _other_metadata(table: Any, rng: Rng) -> Any:
    told = dict(table.schema.metadata or {})
    own = [k for k in told if k != b"pandas"] or list(told)
    key = rng.choice(own)
    if rng.random() < 0.1:
        del told[key]
    else:
        told[key] = document(json.loads(told[key]), rng).encode("utf-8", "replace")
    return table.replace_schema_metadata(told)


def _other_values(table: Any, rng: Rng) -> Any:
    import pyarrow as pa

    i = rng.randrange(table.num_columns)
    field = table.schema.field(i)
    values = table.column(i).to_pylist()
    at = rng.randrange(len(values)) if values else 0
    if values:
        values[at] = _other_value(values[at], rng)
    try:
        column = pa.array(values, type=field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        column = pa.array([str(v) for v in values])
    return table.set_column(i, field.name, column)


def _other_value(value: Any, rng: Rng) -> Any:
    if isinstance(value, list):
        if not value or rng.random() < 0.4:
            return rng.choice(([], value[:-1], value * 2, None, value[::-1]))
        k = rng.randrange(len(value))
        return [*value[:k], _other_value(value[k], rng), *value[k + 1 :]]
    if isinstance(value, float):
        return rng.choice((-value, value + 1, float("nan"), float("inf"), 1e308, 0.0, None))
    if isinstance(value, int):
        return rng.choice((-value, value + 1, 1 << 62, None))
    return rng.choice(("", "x" * 5000, "\x1b[31m", f"{value}x", None, "a0.h0", "a99.h99"))


def _other_columns(table: Any, rng: Rng) -> Any:
    import pyarrow as pa

    i = rng.randrange(table.num_columns)
    name = table.schema.field(i).name
    what = rng.randrange(4)
    if what == 0:
        return table.drop_columns([name])
    if what == 1:
        return table.rename_columns([f"{c}x" if c == name else c for c in table.column_names])
    if what == 2:
        return table.append_column(name, table.column(i))
    kind = rng.choice((pa.string(), pa.float32(), pa.int64(), pa.bool_(), pa.list_(pa.float64())))
    try:
        return table.set_column(i, name, table.column(i).cast(kind, safe=False))
    except pa.ArrowException:
        return table.set_column(i, name, pa.nulls(table.num_rows, kind))


def _bomb(table: Any) -> bytes:
    """Few kilobytes that unpack to gigabytes: the first row a million times, in each of forty row groups."""
    import pyarrow.parquet as pq

    out, many = io.BytesIO(), table.slice(0, 1).take([0] * 250_000)
    with pq.ParquetWriter(out, table.schema, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(many)
    return out.getvalue()
