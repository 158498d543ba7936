"""Replications on disk: ``replication.json``, typed and under a digest; pictures in it are numbers, never markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from workbench.circuits.files.claims import ClaimContent, Counts, Tables, check_counts
from workbench.core.file_kind import FileKind
from workbench.core.typed import Count, Part
from workbench.view.pictures import Picture

RESULT = "replication.json"


class FindingsContent(Part, frozen=True):
    """Claims with verdicts, and the tables, pictures and numbers behind them."""

    claims: list[ClaimContent]
    tables: Annotated[Tables, Meta(description="caption -> rows")]
    pictures: Annotated[dict[str, Picture], Meta(description="caption -> picture, as numbers and words")]
    numbers: Annotated[dict[str, Any], Meta(description="what the claims were computed from")]


class ReplicationPlanContent(Part, frozen=True):
    """Everything that decides the numbers."""

    replication: str
    model: str
    weights: str
    config: str
    dtype: str
    device: str
    options: dict[str, Any]
    seed: int
    code: dict[str, str]
    others: Annotated[
        dict[str, str], Meta(description="other built-in models -> digest of their weights")
    ] = msgspec.field(name="other models", default_factory=dict)


class ReplicationContent(FindingsContent, frozen=True):
    """A paper's claims measured again on a model."""

    replication: str
    title: str
    source: str
    about: str
    controls: list[str]
    model: str
    verdicts: Counts
    plan: ReplicationPlanContent
    seconds: Annotated[float, Meta(ge=0)]
    folder: str
    core_seconds: Annotated[float, Meta(ge=0, description="of the processor, all threads")] | None = None
    pictures_not_read: Annotated[Count, Meta(description="pictures that version 1 kept as markup")] = 0

    def __post_init__(self) -> None:
        check_counts(self.claims, self.verdicts)


class ReplicationsContent(Part, frozen=True):
    """Several replications, each as its own file has it."""

    lead: str
    verdicts: Counts
    results: list[dict[str, Any]]
    failed: Annotated[dict[str, str], Meta(description="replication -> why it gave no result")]
    folder: str


def _without_markup(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of version 1 without the SVG that it keeps as pictures."""
    kept = content.get("pictures")
    if not isinstance(kept, dict):
        return dict(content)
    return {**content, "pictures": {}, "pictures_not_read": len(kept)}


REPLICATION = FileKind(
    format="circuit-workbench/replication",
    content=ReplicationContent,
    what="a replication",
    again="workbench replicate NAME -m MODEL --out NEW",
    first=_without_markup,
)
REPLICATIONS = FileKind(
    format="circuit-workbench/replications", content=ReplicationsContent, what="a page of replications"
)
