"""``card.json`` of a built-in model: how it was trained, what was measured of it, what it can and cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from workbench.core.digest import DIGEST
from workbench.core.errors import ModelError
from workbench.core.file_kind import FileKind, Raw
from workbench.core.strict_json import parse, read_text
from workbench.core.typed import Count, Part

FILE_NAME = "card.json"


class CardContent(Part, frozen=True):
    """What is known about a built-in model."""

    name: str = ""
    title: str = ""
    what: str = ""
    recipe: Annotated[str, Meta(description="what to type to train it again")] = ""
    source: str = ""
    seed: Count = 0
    steps: Annotated[dict[str, Count], Meta(description="optimizer steps of each phase")] = field(
        default_factory=dict
    )
    wall_seconds: Annotated[float, Meta(ge=0)] | None = None
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    parameters: Count | None = None
    bytes: Annotated[Count | None, Meta(description="of all its files but this one")] = None
    measured: dict[str, float] = field(default_factory=dict)
    counts: Annotated[dict[str, Count], Meta(description="n of each measurement")] = field(
        default_factory=dict
    )
    units: dict[str, str] = field(default_factory=dict)
    can: list[str] = field(default_factory=list)
    cannot: list[str] = field(default_factory=list)
    held_out: dict[str, str] = field(default_factory=dict)
    data: dict[str, str | int | float] = field(default_factory=dict)
    weights: Annotated[str | UnsetType, Meta(description="digest of its weights")] = UNSET


def _raw(file: Path) -> Raw:
    """The document; the first cards had neither format nor version."""
    document = parse(read_text(file, error=ModelError), where=str(file), error=ModelError)
    if isinstance(document, dict) and not {"format", "version", DIGEST} & set(document):
        document = {"format": CARD.format, "version": 1, **document}
    return document, None, document


CARD = FileKind(
    format="circuit-workbench/model-card",
    content=CardContent,
    what="the card of a built-in model",
    error=ModelError,
    again="pip install --force-reinstall circuit-workbench",
    raw=_raw,
)

__all__ = ["CARD", "FILE_NAME", "CardContent"]
