"""Measured edits on disk: ``measured.json``, typed and under a digest."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from workbench.core.behavior_part import BehaviorPart
from workbench.core.file_kind import FileKind
from workbench.core.typed import Count, Part

RESULT = "measured.json"


class MeasuredRow(Part, frozen=True):
    """One measure in one place, without the edit and with it."""

    on: Annotated[str, Meta(description="a task, or text")]
    measure: str
    unit: str
    without: float | None
    with_edit: Annotated[float | None, Meta(description="with the edit")] = msgspec.field(name="with")
    difference: Annotated[float | None, Meta(description="with minus without, mean over prompts")]
    low: Annotated[float | None, Meta(description="95 % bootstrap over prompts; null for one prompt")]
    high: float | None
    changed: Annotated[Count, Meta(description="prompts that moved by more than rounding")]
    n: Annotated[int, Meta(ge=1)]
    clusters: Annotated[
        Count | msgspec.UnsetType,
        Meta(
            description="independent groups, whose prompts are drawn together; absent where every prompt is one"
        ),
    ] = msgspec.UNSET
    pattern: Annotated[
        str | msgspec.UnsetType, Meta(description="what is in place of the heads' own; of attention replace")
    ] = msgspec.UNSET
    mask: Annotated[str | msgspec.UnsetType, Meta(description="what heads may see; of attention mask")] = (
        msgspec.UNSET
    )
    keys: Annotated[
        float | msgspec.UnsetType | None,
        Meta(
            description="keys that a query sees, mean; null where they depend on content; of attention mask"
        ),
    ] = msgspec.UNSET
    layers: Annotated[
        str | msgspec.UnsetType, Meta(description="where: layers or heads; of attention replace and mask")
    ] = msgspec.UNSET
    heads: Annotated[
        Count | msgspec.UnsetType, Meta(description="how many heads; of attention replace and mask")
    ] = msgspec.UNSET


class MeasuredContent(Part, frozen=True):
    """What an edit does: means without and with it, prompt by prompt compared."""

    edit: Annotated[str, Meta(description="what it does and where, in words")]
    model: str
    rows: list[MeasuredRow]
    plan: Annotated[
        dict[str, Any], Meta(description="what decides the numbers; the run record has its digest")
    ]
    behaviors: Annotated[
        dict[str, BehaviorPart], Meta(description="what the model does without the edit, by task")
    ] = msgspec.field(default_factory=dict)


MEASURED = FileKind(
    format="circuit-workbench/measured-edit",
    content=MeasuredContent,
    what="a measured edit",
    again="to measure it again: rm FILE, then workbench edit measure EDIT -m MODEL -t TASK -o FOLDER",
)
