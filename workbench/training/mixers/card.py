"""The card beside trained arms: their recipe, seeds and data, what they cannot do, and a digest of their weights."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from workbench.core.errors import ModelError
from workbench.core.file_kind import FileKind
from workbench.core.typed import Count, Part, Sha256


class ArmsContent(Part, frozen=True):
    """What is known of the trained models of one comparison."""

    name: str
    recipe: Annotated[dict[str, Any], Meta(description="everything that decides the weights, seeds apart")]
    seeds: list[Count]
    weights: Annotated[Sha256, Meta(description="SHA-256 of the file of weights")]
    retrain: Annotated[str, Meta(description="what to type to train them again")] = ""
    learned: Annotated[dict[str, float], Meta(description="accuracy of every arm, mean over seeds")] = field(
        default_factory=dict
    )
    n: Annotated[Count, Meta(description="questions behind each accuracy")] = 0
    steps: Count = 0
    core_seconds: Annotated[float, Meta(ge=0)] = 0.0
    parameters: Annotated[Count, Meta(description="of all arms and seeds together")] = 0
    versions: dict[str, str] = field(default_factory=dict)
    cannot: list[str] = field(default_factory=list)


ARMS = FileKind(
    format="circuit-workbench/trained-arms",
    content=ArmsContent,
    what="the card of trained arms",
    error=ModelError,
    again="pip install --force-reinstall circuit-workbench",
)
