"""What a reproduction is made of: a study is a list of steps, a step gives tables and tests claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.effects import Effects
from workbench.core.claims import JudgedClaim, Rows, plain
from workbench.core.errors import RunError
from workbench.core.loading import lazily
from workbench.core.progress import Progress
from workbench.core.typed import typed
from workbench.engine.interventions.words import Mlps
from workbench.papers.studies.file import StepContent

with lazily():
    from workbench.engine.interventions import path_patching

if TYPE_CHECKING:
    from workbench.engine.paired_runs import PairedRuns


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step measured. ``found`` is what later steps read; everything is JSON values.

    Attributes:
        tables: Caption -> rows; numbers that the paper has stand beside ours.
    """

    name: str
    title: str
    tables: Mapping[str, Rows] = field(default_factory=dict)
    claims: tuple[JudgedClaim, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "tables": {caption: [plain(row) for row in rows] for caption, rows in self.tables.items()},
            "claims": [claim.to_dict() for claim in self.claims],
            "found": dict(self.found),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StepResult:
        """Read what ``to_dict`` wrote.

        Raises:
            RunError: if a part of it is missing or of another type.
        """
        return cls.of(typed(data, StepContent, where="this step", error=RunError))

    @classmethod
    def of(cls, content: StepContent) -> StepResult:
        """The step that a file holds."""
        claims = tuple(claim.claim_of() for claim in content.claims)
        same = {name: getattr(content, name) for name in ("name", "title", "tables", "found")}
        return cls(claims=claims, **same)


@dataclass(kw_only=True, eq=False)
class State:
    """What the steps of one study share.

    Attributes:
        runs: The pairs that are measured, corrupted as in the paper.
        reference: More pairs of the same kind, these included, whose corrupted prompts give the means.
        published: The paper's circuit.
        comparable: Whether the model is the one the paper studied, so that head numbers mean the same.
        found: What the steps so far found.
    """

    runs: PairedRuns
    reference: PairedRuns
    published: Circuit
    comparable: bool
    seed: int = 0
    parts: Path | None = None
    progress: Progress | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def path_patches(
        self,
        step: str,
        senders: Sequence[str],
        receivers: Sequence[str],
        positions: Sequence[str],
        *,
        mlps: Mlps = "recomputed",
    ) -> Effects:
        """Path patching with finished parts kept on disk where there is a folder."""
        folder = None if self.parts is None else self.parts / step
        return path_patching.path_patches(
            self.runs,
            list(senders),
            list(receivers),
            mlps=mlps,
            positions=positions,
            folder=folder,
            resume=True,
            progress=self.progress,
        )

    @property
    def heads(self) -> list[str]:
        wiring = self.runs.wiring
        return [f"a{n}.h{h}" for n in wiring.attention_layers for h in range(wiring.n_heads)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: a name, what it asks, and the function that answers."""

    name: str
    title: str
    run: Callable[[State], StepResult]
    passes: str = ""

    def __call__(self, state: State) -> StepResult:
        return self.run(state)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published circuit with the steps that lead to it.

    Attributes:
        published: Name of the circuit in ``workbench.circuits.published``.
        model_names: How the paper's model is called; with the circuit's shape it decides ``comparable``.
        circuit: Makes the circuit that the steps found.
        rules: The thresholds that decide, by name; they are part of the plan.
    """

    name: str
    published: str
    task: str
    corruption: str
    steps: tuple[Step, ...]
    model_names: tuple[str, ...]
    circuit: Callable[[State], Circuit | None]
    positions: tuple[str, ...] = ()
    rules: Mapping[str, float] = field(default_factory=dict)
