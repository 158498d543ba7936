"""Tables of effects as Parquet: one row per intervention with the per-pair values, and what they are in the schema."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from workbench.effects import Effects
from workbench.errors import RunError
from workbench.io.atomic import write_atomic

FORMAT, VERSION, NAME = "circuit-workbench/effects", 1, "effects.parquet"
_KEY = b"circuit-workbench"


def save_effects(effects: Effects, folder: str | os.PathLike[str]) -> Path:
    """Write ``effects.parquet`` into a folder, atomically.

    Columns: label, layer, head, position, effect, stderr, n, share, unit, per_pair, patched (lists). Base, gap,
    pair ids and provenance are in the schema's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = effects.to_dataframe()
    frame["position"] = frame["position"].map(lambda p: None if p is None else str(p)).astype(object)
    frame["per_pair"] = list(effects.per_pair)
    frame["patched"] = list(effects.patched)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "base": [float(x) for x in effects.base],
        "gap": None if effects.gap is None else [float(x) for x in effects.gap],
        "pair_ids": list(effects.pair_ids),
        **{name: getattr(effects, name) for name in _FIELDS},
        "provenance": dict(effects.provenance),
    }
    schema = {**(table.schema.metadata or {}), _KEY: json.dumps(meta, allow_nan=False).encode()}
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(schema), buffer, compression="zstd", write_page_checksum=True
    )
    return write_atomic(Path(folder) / NAME, buffer.getvalue())


_FIELDS = ("direction", "mode", "kind", "metric", "unit", "task", "model")


def load_effects(path: str | os.PathLike[str]) -> Effects:
    """Read a table of effects back; ``path`` is the file or its folder.

    Raises:
        RunError: if it is missing, damaged, or of another format or version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path) / NAME if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise RunError(f"no table of effects at {path}", hint="give a folder that holds effects.parquet")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        meta: dict[str, Any] = json.loads((table.schema.metadata or {})[_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as problem:
        raise RunError(
            f"{path} is not a whole table of effects: {str(problem)[:200]}",
            hint=f"rm {path}, then workbench runs resume {path.parent}",
        ) from None
    if meta.get("format") != FORMAT or meta.get("version") != VERSION:
        raise RunError(
            f"{path} has format {meta.get('format')!r} version {meta.get('version')!r}",
            hint=f"this workbench reads {FORMAT} version {VERSION}",
        )
    columns = table.to_pydict()
    return Effects(
        labels=tuple(columns["label"]),
        patched=np.array(columns["patched"], dtype=np.float64).reshape(
            len(columns["label"]), len(meta["base"])
        ),
        base=np.array(meta["base"]),
        gap=None if meta["gap"] is None else np.array(meta["gap"]),
        pair_ids=tuple(meta["pair_ids"]),
        provenance=meta["provenance"],
        **{name: meta[name] for name in _FIELDS},
    )
