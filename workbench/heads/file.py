"""Portraits on disk: ``portrait.json``, and the table ``heads.parquet``; typed and under a digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from workbench.circuits.files.parquet import read_table
from workbench.core.digest import table_blocks
from workbench.core.errors import WorkbenchError
from workbench.core.file_kind import FileKind, Raw
from workbench.core.strict_json import parse
from workbench.core.typed import Count, Part

KEY = b"workbench"  # of the metadata of a table
Layers = Annotated[int, Meta(ge=1, le=10_000)]
Table = Annotated[
    list[list[float | None]], Meta(description="a list per layer, a number per head; null: none")
]


class Column(Part, frozen=True):
    """What a number per head means."""

    name: str
    on: Literal["random", "text", "weights", "pictures"]
    evidence: Annotated[Literal["read-out", "weight", "causal"], Meta(description="kinds are never added up")]
    low: Annotated[float | None, Meta(description="the least it can be; null without a bound")]
    high: float | None
    unit: str
    about: str
    null_about: Annotated[str, Meta(description="what the null value is of")]
    source: str
    n: Count
    missing: Annotated[dict[str, list[Count]], Meta(description="reason -> layers; no layers means all")]


class MeasurementContent(Column, frozen=True):
    """One number per head, and what it means."""

    values: Table
    stderr: Table | None
    null: Table
    partners: Annotated[list[list[str]] | None, Meta(description="the earlier head that a score is with")]


class GroundContent(Part, frozen=True):
    """Sequences that heads were looked at on."""

    name: str
    about: str
    n: Annotated[Count, Meta(description="sequences")] | UnsetType = UNSET
    asked: Annotated[Count, Meta(description="sequences that were asked for")] | UnsetType = UNSET
    distinct: Annotated[Count, Meta(description="of them, different ones")] | UnsetType = UNSET
    tokens: Count | UnsetType = UNSET
    period: Annotated[Count | None, Meta(description="after how many tokens they repeat")] | UnsetType = UNSET
    digest: str | UnsetType = UNSET


class Looked(Part, frozen=True):
    """What was looked at in which model."""

    model: str
    n_layers: Layers
    n_heads: Layers
    attention_layers: list[Count]
    grounds: list[GroundContent]
    notes: list[str]
    provenance: dict[str, Any]
    tower: Annotated[str, Meta(description="the stack of the heads; absent: the model's own")] | UnsetType = (
        UNSET
    )


class TableContent(Looked, frozen=True, kw_only=True):
    """What the columns of the table are; the numbers stand in them."""

    measurements: list[Column]


class PortraitContent(Looked, frozen=True, kw_only=True):
    """What every head of a model does, whatever the task is."""

    measurements: list[MeasurementContent]

    def __post_init__(self) -> None:
        if sorted(set(self.attention_layers)) != self.attention_layers or any(
            layer >= self.n_layers for layer in self.attention_layers
        ):
            raise ValueError(f"attention_layers are not layers of {self.n_layers}, each once and in order")
        names = [(m.name, m.on == "text") for m in self.measurements]
        if len(set(names)) < len(names):
            raise ValueError("measurements has a column twice")
        for m in self.measurements:
            for table in (m.values, m.null, m.stderr, m.partners):
                _check_shape(m.name, table, self.n_layers, self.n_heads)


def _check_shape(name: str, table: Sequence[Sequence[object]] | None, layers: int, heads: int) -> None:
    if table is not None and (len(table) != layers or any(len(row) != heads for row in table)):
        raise ValueError(f"{name} has a table that is not {layers} layers of {heads} heads")


PORTRAIT = FileKind(
    format="circuit-workbench/portrait",
    content=PortraitContent,
    what="a portrait",
    error=WorkbenchError,
    again="workbench heads -m MODEL -o NEW",
)


def _table_document(path: Path) -> Raw:
    """The document in a table's metadata; version 1 gave it the format of the portrait."""
    table = read_table(path, what="a table of heads", error=WorkbenchError)
    try:
        blocks, text = table_blocks(table, own=KEY), table.schema.metadata[KEY].decode("utf-8")
    except (KeyError, TypeError, ValueError) as problem:
        raise WorkbenchError(
            f"{path} is not a whole table of heads: {str(problem)[:200]}",
            hint="make it again: workbench heads -m MODEL -o FOLDER",
        ) from None
    document = parse(text, where=f"{path}: metadata", error=WorkbenchError)
    if isinstance(document, dict) and (document.get("format"), document.get("version")) == (
        PORTRAIT.format,
        1,
    ):
        document = {**document, "format": HEADS_TABLE.format}
    return document, blocks, table


HEADS_TABLE = FileKind(
    format="circuit-workbench/heads-table",
    content=TableContent,
    what="a table of heads",
    error=WorkbenchError,
    has_blocks=True,
    again="workbench heads -m MODEL -o NEW",
    raw=_table_document,
)
