"""Tables of effects as Parquet: one row per intervention with the per-pair values, and what they are in the schema."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta, field, to_builtins

from workbench.circuits.behavior import Behavior
from workbench.circuits.effects import Effects
from workbench.circuits.files.parquet import read_table
from workbench.core.atomic import file_at, write_atomic
from workbench.core.behavior_part import BehaviorPart
from workbench.core.bounds import exists
from workbench.core.digest import table_blocks
from workbench.core.errors import RunError, ShapeError, expect_path
from workbench.core.file_kind import FileKind, Raw
from workbench.core.show import saves
from workbench.core.strict_json import parse
from workbench.core.typed import Count, Direction, Part

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "effects.parquet"
_KEY = b"circuit-workbench"
_FIELDS = ("direction", "mode", "kind", "metric", "unit", "task", "model")


class EffectsContent(Part, frozen=True):
    """A table of effects: its metric, its pairs, and the metric of the run that was edited."""

    base: Annotated[list[float], Meta(description="the metric of the run that was edited, one per pair")]
    gap: Annotated[
        list[float] | None, Meta(description="clean minus corrupted times direction, one per pair")
    ]
    pair_ids: list[str]
    direction: Direction
    mode: Literal["noising", "denoising"]
    kind: str
    metric: str
    unit: str
    task: str
    model: str
    provenance: dict[str, Any]
    clusters: Annotated[
        list[Count], Meta(description="equal for pairs that are not independent; empty where all are")
    ] = field(default_factory=list)
    behavior: Annotated[
        BehaviorPart | None, Meta(description="what the model itself does on these pairs")
    ] = None

    def __post_init__(self) -> None:
        n, named = len(self.base), len(self.pair_ids)
        if len(self.clusters) not in (0, n):
            raise ValueError(
                f"clusters has {len(self.clusters)} numbers, base {n}: one for each pair is expected"
            )
        if self.gap is not None and len(self.gap) != n:
            raise ValueError(f"gap has {len(self.gap)} numbers, base {n}: one for each pair is expected")
        if named not in (0, n):
            raise ValueError(f"pair_ids has {named} names, base {n} numbers: one for each pair is expected")


def _raw(file: Path) -> Raw:
    table = _table(file)
    try:
        blocks, text = table_blocks(table, own=_KEY), table.schema.metadata[_KEY].decode("utf-8")
    except (KeyError, TypeError, ValueError) as problem:
        raise _not_whole(file, problem) from None
    return parse(text, where=f"{file}: metadata", error=RunError), blocks, table


def _table(file: Path) -> pa.Table:
    if not exists(file):
        raise RunError(f"no table of effects at {file}", hint="give a folder that holds effects.parquet")
    return read_table(file, what="a table of effects", hint=_hint(file))


def _not_whole(file: Path, problem: Exception) -> RunError:
    return RunError(
        f"{file} is not a whole table of effects: {str(problem)[:200]}",
        hint=_hint(file),
    )


def _hint(file: Path) -> str:
    return f"rm {file}, then workbench runs resume {file.parent}"


EFFECTS = FileKind(
    format="circuit-workbench/effects",
    content=EffectsContent,
    what="a table of effects",
    has_blocks=True,
    again="to measure it again: rm FILE, then workbench runs resume FOLDER",
    raw=_raw,
)


@saves(Effects)
def save_effects(effects: Effects, path: str | os.PathLike[str]) -> Path:
    """Write a table of effects, whole or not at all; a path without ``.parquet`` is a folder: its ``effects.parquet``.

    Columns: label, layer, head, position, effect, stderr, n, share, unit, p, q, p_family, survives, per_pair, patched
    (lists). Base, gap,
    pair ids, provenance and the digest are in the schema's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = effects.to_dataframe()
    frame["position"] = frame["position"].map(lambda p: None if p is None else str(p)).astype(object)
    frame["per_pair"] = list(effects.per_pair)
    frame["patched"] = list(effects.patched)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    content = {
        "base": [float(x) for x in effects.base],
        "gap": None if effects.gap is None else [float(x) for x in effects.gap],
        "pair_ids": list(effects.pair_ids),
        **{name: getattr(effects, name) for name in _FIELDS},
        "provenance": dict(effects.provenance),
        "clusters": list(effects.clusters),
        "behavior": None if effects.behavior is None else effects.behavior.to_dict(),
    }
    document = json.dumps(EFFECTS.document(content, blocks=table_blocks(table, own=_KEY)), allow_nan=False)
    schema = {**(table.schema.metadata or {}), _KEY: document.encode()}
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(schema), buffer, compression="zstd", write_page_checksum=True
    )
    return write_atomic(file_at(path, NAME), buffer.getvalue())


def load_effects(path: str | os.PathLike[str]) -> Effects:
    """Read a table of effects back; ``path`` is the file or its folder.

    Returns:
        The table: effects per intervention and pair in the metric's unit; positive supports the behavior.

    Raises:
        RunError: if it is missing, damaged, of another format or version, or was changed since it was written.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> wb.load_effects(wb.save(wb.ablate(runs, ["a0.h0"]), Path(mkdtemp()))).labels
        ('a0.h0',)
    """
    expect_path(path)
    path = Path(path) / NAME if os.path.isdir(path) else Path(path)
    opened = EFFECTS.load(path)
    content = opened.content
    try:
        labels, patched = _rows(opened.payload, len(content.base))
        found = Effects(
            labels=labels,
            patched=patched,
            base=np.array(content.base),
            gap=None if content.gap is None else np.array(content.gap),
            pair_ids=tuple(content.pair_ids),
            provenance=content.provenance,
            clusters=tuple(content.clusters),
            behavior=None if content.behavior is None else Behavior.from_dict(to_builtins(content.behavior)),
            notes=opened.origin.notes,
            **{name: getattr(content, name) for name in _FIELDS},
        )
    except (ValueError, TypeError, KeyError, ShapeError) as problem:
        raise _not_whole(path, problem) from None
    _refuse_other_means(found, opened.payload, path)
    return found


def _rows(table: pa.Table, n_pairs: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels, and the ``(row, pair)`` values.

    Raises:
        ValueError: if they are not a text and a list of one number per pair in each row.
    """
    labels, rows = table.column("label").to_pylist(), table.column("patched").to_pylist()
    if not all(isinstance(label, str) for label in labels):
        raise ValueError("the column label is not of texts")
    if any(row is None or len(row) != n_pairs for row in rows):
        raise ValueError(f"the column patched does not have {n_pairs} numbers in each row, one for each pair")
    return tuple(labels), np.array(rows, dtype=np.float64).reshape(len(labels), n_pairs)


def _refuse_other_means(effects: Effects, table: pa.Table, path: Path) -> None:
    """The column of means must follow from the values of every pair.

    Raises:
        RunError: if it does not: one of them, or the direction, was changed.
    """
    if not len(effects):
        return
    try:
        means = np.array(table.column("effect").to_pylist(), dtype=np.float64)
    except (KeyError, ValueError, TypeError) as problem:
        raise _not_whole(path, problem) from None
    sizes = np.abs(effects.patched[np.isfinite(effects.patched)])
    # 1e-9: what another order of adding changes
    atol = 1e-9 * float(sizes.max(initial=1.0))
    wrong = ~np.isclose(means, effects.mean, rtol=1e-9, atol=atol, equal_nan=True)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise RunError(
            f"{path}: the effect of {effects.labels[i]} is {means[i]:g}, its values per pair give "
            f"{effects.mean[i]:g}; the table was changed since it was written",
            hint=f"to measure it again: rm {path}, then workbench runs resume {path.parent}",
        )
