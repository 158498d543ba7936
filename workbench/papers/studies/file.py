"""Re-run studies on disk: the plan of a folder, each finished step, and ``study.json`` with all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from workbench.circuits.files.claims import ClaimContent, Counts, Tables, check_counts
from workbench.core.errors import RunError
from workbench.core.file_kind import FileKind, Raw
from workbench.core.strict_json import parse, read_text
from workbench.core.typed import Count, Part

PLAN_NAME, STUDY_NAME, STEPS = "plan.json", "study.json", "steps"


class StepContent(Part, frozen=True):
    """What one step measured."""

    name: str
    title: str
    tables: Annotated[Tables, Meta(description="caption -> rows")]
    claims: list[ClaimContent]
    found: Annotated[dict[str, Any], Meta(description="what later steps read")]


class StudyContent(Part, frozen=True):
    """A study on one model."""

    study: str
    source: str
    model: str
    comparable: Annotated[
        bool, Meta(description="the paper's own model, so that heads are compared by number")
    ]
    n_pairs: Count
    n_reference: Count
    verdicts: Counts
    steps: list[StepContent]
    heads: Annotated[list[str], Meta(description="of the circuit that was found")]
    setting: Annotated[dict[str, Any], Meta(description="model, weights, pairs: what decides the numbers")]
    folder: str

    def __post_init__(self) -> None:
        check_counts([claim for step in self.steps for claim in step.claims], self.verdicts)


class ReferenceContent(Part, frozen=True):
    """The pairs that means are taken over, by digest."""

    pairs: str
    tokens: str


class StudyPlan(Part, frozen=True):
    """What decides the numbers of a folder, written before the first step."""

    study: str
    steps: list[str]
    rules: dict[str, int | float]
    reference: ReferenceContent
    seed: int
    batch_tokens: Count
    code: dict[str, str]
    runs: Annotated[dict[str, Any], Meta(description="model, weights, pairs and metric")]


def _nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """A plan of version 1, in which what is of the runs stood beside the rest."""
    names = {*StudyPlan.__struct_fields__} - {"runs"}
    own = {name: value for name, value in content.items() if name in names}
    return {**own, "runs": {name: value for name, value in content.items() if name not in own}}


def _step(path: Path) -> Raw:
    """A step's document; version 1 did not say what it is."""
    document = parse(read_text(path, error=RunError), where=str(path), error=RunError)
    if isinstance(document, dict) and set(document) == set(StepContent.__struct_fields__):
        document = {"format": STEP.format, "version": 1, **document}
    return document, None, None


STUDY = FileKind(
    format="circuit-workbench/reproduction",
    content=StudyContent,
    what="a re-run study",
    again="workbench reproduce STUDY -m MODEL -o NEW",
)
STEP = FileKind(
    format="circuit-workbench/reproduction-step", content=StepContent, what="a step of a study", raw=_step
)
PLAN = FileKind(
    format="circuit-workbench/reproduction-plan", content=StudyPlan, what="the plan of a study", first=_nested
)
