"""Benches on disk: each finished cell, and ``bench.json`` with all of them; typed and under a digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from workbench.core.file_kind import FileKind
from workbench.core.typed import Count, Part

Number = float | None  # none where it is not defined
Level = Literal["edge", "node"]
Ranking = Literal["absolute", "signed"]
Edges = Annotated[list[tuple[str, Number]], Meta(description="address and score")]
Points = list[tuple[float, float]]


class Gap(Part, frozen=True):
    """Mean metric of clean and corrupted prompts, and whether their difference carries a faithfulness."""

    clean: float
    corrupted: float
    gap: float
    stderr: Number
    carries: bool


class CellContent(Part, kw_only=True, tag_field="status", frozen=True):
    """One method on one subject."""

    subject: str
    method: str
    level: Level
    noise: Annotated[float, Meta(description="in the weights, as a share of them")] | UnsetType = UNSET
    gap: Gap | UnsetType = UNSET


class Refused(CellContent, kw_only=True, tag="refused", frozen=True):
    """A method that cannot be used there."""

    reason: str


class LeftOutContent(CellContent, kw_only=True, tag="left out", frozen=True):
    """A method that takes too many passes."""

    reason: str


class Failed(CellContent, kw_only=True, tag="failed", frozen=True):
    """A method that ended with an error; it is tried again."""

    reason: str


class Scored(CellContent, kw_only=True, frozen=True):
    """What every finished cell says of its scores."""

    unit: str
    metric: str
    n_pairs: Count
    candidates: Count
    ranking: Ranking
    selection: str
    options: dict[str, Any]
    passes: Annotated[int | float, Meta(description="forward and backward, per batch of pairs")]
    cpu_seconds: float
    wall_seconds: float


class OneSeed(Part, frozen=True):
    """Recovery with one seed of a method that draws at random."""

    auroc: Number
    auprc: Number


class OwnRecovery(Part, frozen=True):
    """The circuit that a method itself decides on, against the true one."""

    size: Count
    precision: Number
    recall: Number


class TruthCell(Scored, kw_only=True, tag="done", frozen=True):
    """How well scores tell a known circuit from the rest."""

    auroc: Number
    auprc: Number
    n_positive: Count
    n_negative: Count
    roc: Points
    pr: Points
    missed: Edges
    above: Edges
    seeds: list[OneSeed]
    own: OwnRecovery | None
    auroc_signed: Number | UnsetType = UNSET
    auroc_absolute: Number | UnsetType = UNSET


class PointContent(Part, frozen=True):
    """A circuit of a size and the share of the metric that it keeps."""

    share: float
    size: Count
    faithfulness: Number


class AgreementContent(Part, frozen=True):
    """Correlation with exact effects."""

    pearson: Number
    spearman: Number
    against: str
    n: Count


class OwnFaithfulness(Part, frozen=True):
    """The circuit that a method itself decides on."""

    size: Count
    faithfulness: Number


class StabilityContent(Part, frozen=True):
    """Mean Jaccard of the best edges over draws of pairs, halves of one draw, templates, seeds of the method."""

    share: float
    size: Count
    chance: Number
    left_out: Annotated[str, Meta(description="why something was not compared")] | UnsetType = UNSET
    seeds: Number | UnsetType = UNSET
    halves: Number | UnsetType = UNSET
    draws: Number | UnsetType = UNSET
    templates: Number | UnsetType = UNSET
    null: (
        Annotated[Number, Meta(description="halves of the pairs, each with the answers of another")]
        | UnsetType
    ) = UNSET


class SpecificityContent(Part, frozen=True):
    """What the model loses without a circuit: on its own task, and on others; shares of their gaps."""

    left_out: Annotated[str, Meta(description="why it was not measured")] | UnsetType = UNSET
    value: Annotated[Number, Meta(description="own minus others")] | UnsetType = UNSET
    own: Number | UnsetType = UNSET
    others: Number | UnsetType = UNSET
    random: Annotated[Number, Meta(description="mean of the value over random circuits")] | UnsetType = UNSET
    reached_by: Annotated[Count, Meta(description="random circuits of as large a value")] | UnsetType = UNSET
    draws: Count | UnsetType = UNSET
    tasks: list[str] | UnsetType = UNSET


class TaskCell(Scored, kw_only=True, tag="done", frozen=True):
    """How much of a trained task the circuits of a method keep."""

    CPR: Number
    CMD: Number
    faithfulness: Annotated[dict[str, Number], Meta(description="share of edges -> share of the metric")]
    curves: dict[Ranking, list[PointContent]]
    agreement: AgreementContent | None
    own: OwnFaithfulness | None
    stability: StabilityContent
    variation: (
        Annotated[
            Number, Meta(description="of the faithfulness of single pairs, standard deviation over mean")
        ]
        | UnsetType
    ) = UNSET
    specificity: SpecificityContent | UnsetType = UNSET


OnTruth = TruthCell | Refused | LeftOutContent | Failed
OnTask = TaskCell | Refused | LeftOutContent | Failed


class Decided(Part, frozen=True):
    """Everything that decides a cell; its digest is the name of the file."""

    kind: Literal["truth", "task"]
    model: str
    weights: str
    config: str
    dtype: str
    device: str
    tokens: str
    metric: str
    metric_source: str
    method: str
    options: dict[str, Any]
    level: Level
    seeds: list[int]
    most_passes: int | None
    repeat_passes: int
    code: dict[str, str]
    standing: Annotated[list[str], Meta(description="what stood on the model")] | UnsetType = UNSET
    truth: Annotated[str, Meta(description="digest of the true circuit")] | UnsetType = UNSET
    noise: float | UnsetType = UNSET
    draws: Annotated[list[str], Meta(description="digests of the pairs")] | UnsetType = UNSET
    judged: str | UnsetType = UNSET


class BenchCell(Part, frozen=True):
    """A finished cell, on a known circuit or on a trained task, and what decided it."""

    decided: Decided
    truth: OnTruth | UnsetType = UNSET
    task: OnTask | UnsetType = UNSET

    def __post_init__(self) -> None:
        there = [name for name in ("truth", "task") if getattr(self, name) is not UNSET]
        if there != [self.decided.kind]:
            raise ValueError(f"a cell of kind {self.decided.kind} has {' and '.join(there) or 'no cell'}")

    @property
    def cell(self) -> OnTruth | OnTask:
        """The one cell that it holds."""
        there = self.task if isinstance(self.truth, UnsetType) else self.truth
        assert not isinstance(there, UnsetType)  # one is there: __post_init__
        return there


class SettingsContent(Part, frozen=True):
    """Everything that decides a bench."""

    methods: list[str]
    truths: list[str] | None
    tasks: list[str]
    levels: list[Level]
    n_truth: Count
    n_task: Count
    noise: float
    seeds: Count
    seed: int
    repeat_passes: Count
    most_passes: Count | None


class MethodRow(Part, frozen=True):
    """A method as it was used."""

    method: str
    levels: list[str]
    claim: str
    source: str
    options: dict[str, Any]
    ranking: Ranking
    selection: str


class KnownRow(Part, frozen=True):
    """A model whose circuit is known."""

    model: str
    algorithm: str
    norm: str
    sharpness: str
    about: str


class LeftOutSubject(Part, frozen=True):
    """A task on which nothing could be measured, and why."""

    subject: str
    reason: str


class BenchContent(Part, frozen=True):
    """Every method side by side."""

    settings: SettingsContent
    code: dict[str, str]
    machine: str
    methods: list[MethodRow]
    known: list[KnownRow]
    truth: list[OnTruth]
    tasks: list[OnTask]
    left_out: list[LeftOutSubject]


def _nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of version 1, in which what the cell says stood beside what decided it."""
    decided = content.get("decided")
    kind = decided.get("kind") if isinstance(decided, dict) else None
    own = {name: value for name, value in content.items() if name != "decided"}
    return {"decided": decided, str(kind): own}


CELL = FileKind(
    format="circuit-workbench/bench-cell",
    content=BenchCell,
    what="a cell of a bench",
    again="rm FILE, then start the bench again",
    first=_nested,
)
BENCH = FileKind(
    format="circuit-workbench/bench-discovery",
    content=BenchContent,
    what="a bench",
    again="to put it together again from its cells: workbench bench discovery -o FOLDER",
)
