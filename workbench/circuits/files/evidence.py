"""The typed content of evaluation files: what each part of the evidence is, and which lengths agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from workbench.circuits.files.circuit_file import Level
from workbench.circuits.verdicts.criteria import Criteria
from workbench.core.behavior_part import BehaviorPart
from workbench.core.typed import Count, Direction, Part

Numbers = list[float]
MOST_RESAMPLED = 10**8  # resamples times pairs: what verdicts hold in memory, 0.8 GB


class Judged(Part, frozen=True):
    """What was judged."""

    digest: str
    level: Level
    method: str
    task: str
    model: str
    size: Count
    candidates: Count
    heads: list[str]
    roles: dict[str, str]


class PairsOf(Part, frozen=True):
    """Ids and templates of the pairs, in the order of every list of numbers."""

    ids: Annotated[list[str], Meta(min_length=2)]
    groups: list[str]
    clusters: Annotated[
        list[Count], Meta(description="equal for pairs that are not independent; empty where all are")
    ] = field(default_factory=list)


class PairScores(Part, frozen=True):
    """The metric per pair: of the model, the circuit, nothing, and the model with the circuit knocked out."""

    model: Numbers
    circuit: Numbers
    nothing: Numbers
    complement: Numbers


class TakenAway(Part, frozen=True):
    """A set of parts taken from circuit and model."""

    kind: str
    name: str
    removed: list[str]
    circuit: Numbers
    model: Numbers
    searched: Annotated[list[Count], Meta(description="pairs on which the set was searched, not judged")]


class NodeLeftOut(Part, frozen=True):
    """A node taken from what is left of its class."""

    part: str
    of: Annotated[str, Meta(description="its class")] = field(name="class")
    rest: list[str]
    kept: Numbers
    left_out: Numbers


class EdgeLeftOut(Part, frozen=True):
    """The circuit without an edge."""

    edge: str
    left_out: Numbers


class Edges(Part, frozen=True):
    """The circuit without each edge, and what random new edges change in larger circuits."""

    of: Count
    seed: Count
    left_out: list[EdgeLeftOut]
    reference: Numbers


class RandomCircuits(Part, frozen=True):
    """Random circuits of the same size."""

    seed: Count
    sizes: list[Count]
    metric: Numbers
    distance: Numbers
    knocked_out: Numbers

    def __post_init__(self) -> None:
        if not len(self.sizes) == len(self.metric) == len(self.distance) == len(self.knocked_out):
            raise ValueError(
                "sizes, metric, distance and knocked_out must have one number for each random circuit"
            )


class MatchedDraw(Part, frozen=True):
    """Heads of the circuit and others of the same layers, knocked out."""

    n: Count
    heads: list[str]
    controls: list[str]
    drop: float
    control_drop: float


class Matched(Part, frozen=True):
    """What heads cost beside others of their layers."""

    seed: Count
    draws: list[MatchedDraw]


class UnderAblation(Part, frozen=True):
    """The circuit and nothing under one ablation."""

    circuit: Numbers
    nothing: Numbers


class StabilityEvidence(Part, frozen=True):
    """Circuits found again on resampled pairs."""

    method: str
    parts: list[str]
    sets: Annotated[list[list[Count]], Meta(description="which of the parts each resample chose")]
    candidates: Count
    refitted: bool
    n_pairs: Count
    seed: Count
    note: str = ""

    def __post_init__(self) -> None:
        if any(i >= len(self.parts) for chosen in self.sets for i in chosen):
            raise ValueError(f"sets names a part beyond the {len(self.parts)} in parts")


class DamageEvidence(Part, frozen=True):
    """The metric of the model without the circuit on one task, and without random circuits."""

    task: str
    metric: str
    unit: str
    pairs: Annotated[str, Meta(description="digest of the task's pairs")]
    full: Annotated[Numbers, Meta(min_length=2)]
    without: Numbers
    nothing: Numbers
    random: Annotated[Numbers, Meta(description="mean metric without each random circuit")]
    clusters: list[Count] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.full)
        if not n == len(self.without) == len(self.nothing) or len(self.clusters) not in (0, n):
            raise ValueError(
                f"full, without, nothing and clusters of {self.task} must have one entry per pair"
            )


class PartEvidence(Part, frozen=True):
    """What cutting one part of the circuit out of the model does; shares of the gap."""

    name: str
    size: Count
    own: float | None
    others: float | None
    random_own: float | None
    random_others: float | None


class SpecificityEvidence(Part, frozen=True):
    """What cutting the circuit out of the model does to its own task and to others."""

    seed: Count
    sizes: Annotated[list[Count], Meta(description="of the random circuits, the same ones on every task")]
    own: DamageEvidence
    others: Annotated[list[DamageEvidence], Meta(min_length=1)]
    skipped: Annotated[dict[str, str], Meta(description="tasks that were left out, and why")] = field(
        default_factory=dict
    )
    parts: Annotated[
        list[PartEvidence],
        Meta(description="by how many tasks' circuits have them, and what heads alone write"),
    ] = field(default_factory=list)

    def __post_init__(self) -> None:
        for damage in (self.own, *self.others):
            if len(damage.random) != len(self.sizes):
                raise ValueError(f"random of {damage.task} must have one number for each random circuit")


class VarianceEvidence(Part, frozen=True):
    """Circuits found again on templates, halves and a null task, and faithfulness pair by pair, where it was found."""

    templates: list[str]
    overlap: Annotated[list[list[float | None]], Meta(description="Jaccard of the circuits of two templates")]
    faithfulness: Annotated[
        list[list[float | None]], Meta(description="of the circuit of one template on the pairs of another")
    ]
    each: Annotated[list[float | None], Meta(description="faithfulness of single pairs; null without a gap")]
    resampled: Annotated[float | None, Meta(description="mean Jaccard over resampled pairs")]
    null: Annotated[float | None, Meta(description="the same with the answers of other pairs")]
    halves: Annotated[list[float | None], Meta(description="Jaccard of the circuits of two halves")]
    edges: Annotated[list[str], Meta(description="whose exact effect was measured on every pair")] = field(
        default_factory=list
    )
    effect: Annotated[list[float | None], Meta(description="mean exact effect of each edge")] = field(
        default_factory=list
    )
    spread: Annotated[list[float | None], Meta(description="its standard deviation over pairs")] = field(
        default_factory=list
    )
    signs: Annotated[list[float | None], Meta(description="share of the pairs with the sign of the mean")] = (
        field(default_factory=list)
    )

    def __post_init__(self) -> None:
        n = len(self.templates)
        if not len(self.edges) == len(self.effect) == len(self.spread) == len(self.signs):
            raise ValueError("edges, effect, spread and signs must have one entry for each edge")
        if any(len(m) != n or any(len(row) != n for row in m) for m in (self.overlap, self.faithfulness)):
            raise ValueError(
                f"overlap and faithfulness must have {n} rows and columns, one for each template"
            )


class CurveEvidence(Part, frozen=True):
    """The metric of other sizes of the circuit, per size and pair."""

    ranking: Literal["absolute", "signed"]
    greedy: bool
    shares: Numbers
    sizes: list[Count]
    metric: list[Numbers]
    select: str = ""

    def __post_init__(self) -> None:
        if not len(self.shares) == len(self.sizes) == len(self.metric):
            raise ValueError("shares, sizes and metric must have one entry for each size")


class Evidence(Part, frozen=True):
    """All that was measured; every part but the scores may be missing."""

    scores: PairScores
    completeness: list[TakenAway] | UnsetType = UNSET
    minimality: list[NodeLeftOut] | UnsetType = UNSET
    edges: Edges | UnsetType = UNSET
    random: RandomCircuits | UnsetType = UNSET
    matched: Matched | UnsetType = UNSET
    ablations: dict[str, UnderAblation] | UnsetType = UNSET
    stability: StabilityEvidence | UnsetType = UNSET
    curve: CurveEvidence | UnsetType = UNSET
    specificity: SpecificityEvidence | UnsetType = UNSET
    variance: VarianceEvidence | UnsetType = UNSET

    def per_pair(self) -> Iterator[tuple[str, Numbers]]:
        """Return every list that has one number per pair, with its place."""
        for name in PairScores.__struct_fields__:
            yield f"scores.{name}", getattr(self.scores, name)
        for i, row in enumerate(self.completeness or ()):
            yield f"completeness[{i}].circuit", row.circuit
            yield f"completeness[{i}].model", row.model
        for i, left in enumerate(self.minimality or ()):
            yield f"minimality[{i}].kept", left.kept
            yield f"minimality[{i}].left_out", left.left_out
        for i, edge in enumerate(self.edges.left_out if self.edges else ()):
            yield f"edges.left_out[{i}].left_out", edge.left_out
        for name, under in (self.ablations or {}).items():
            yield f"ablations.{name}.circuit", under.circuit
            yield f"ablations.{name}.nothing", under.nothing
        for i, values in enumerate(self.curve.metric if self.curve else ()):
            yield f"curve.metric[{i}]", values


class VerdictRow(Part, frozen=True):
    """One question and its answer."""

    name: str
    holds: bool | None
    measured: str
    criterion: str
    value: float | None
    p: float | None
    n: int | None
    verdict: Literal["yes", "no", "open"]


class EvaluationContent(Part, frozen=True):
    """Evidence per pair on a circuit and the verdicts that follow from it."""

    circuit: Judged
    metric: str
    unit: str
    direction: Direction
    ablation: str
    pairs: PairsOf
    provenance: dict[str, Any]
    plan: dict[str, Any]
    criteria: Criteria
    evidence: Evidence
    missing: Annotated[dict[str, str], Meta(description="parts that could not be measured, and why")]
    verdicts: list[VerdictRow]
    behavior: Annotated[
        BehaviorPart | None, Meta(description="what the model itself does on these pairs")
    ] = None

    def __post_init__(self) -> None:
        n = len(self.pairs.ids)
        if len(self.pairs.groups) != n:
            raise ValueError(f"pairs.groups must name one template for each of {n} pairs")
        if len(self.pairs.clusters) not in (0, n):
            raise ValueError(f"pairs.clusters must have one number for each of {n} pairs, or none")
        for name, values in self.evidence.per_pair():
            if len(values) != n:
                raise ValueError(f"{name} must have one number for each of {n} pairs, not {len(values)}")
        for name in ("resamples", "permutations", "flips"):
            if not 1 <= getattr(self.criteria, name) <= MOST_RESAMPLED / n:
                raise ValueError(f"criteria.{name} is not a number from 1 to what memory holds for {n} pairs")
        for i, row in enumerate(self.evidence.completeness or ()):
            if len({at for at in row.searched if at < n}) >= n:
                raise ValueError(f"completeness[{i}].searched leaves no pair to judge on")


__all__ = ["EvaluationContent"]
