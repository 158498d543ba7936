"""What a reproduction found: every step's tables and claims, and how they are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import FILE_NAME as CIRCUIT_NAME
from workbench.circuits.files.circuit_file import load_circuit, save_circuit
from workbench.circuits.files.csv_text import csv_text
from workbench.core.atomic import file_at, write_atomic
from workbench.core.claims import JudgedClaim, counts, plain, tally
from workbench.core.show import Shown, saves
from workbench.core.strict_json import dump
from workbench.core.text import printable
from workbench.papers.studies.file import STUDY, STUDY_NAME
from workbench.papers.studies.kinds import StepResult


@dataclass(frozen=True, kw_only=True, eq=False)
class Reproduction(
    Shown, shown_in="workbench.papers.studies.show", saved_in="workbench.papers.studies.result"
):
    """A study on one model.

    Attributes:
        comparable: Whether the model is the paper's own, so that heads are compared by number.
        setting: Model, weights, pairs, seed: what decides the numbers.
    """

    study: str
    source: str
    model: str
    comparable: bool
    n_pairs: int
    n_reference: int
    steps: tuple[StepResult, ...]
    circuit: Circuit | None
    setting: Mapping[str, Any]
    folder: Path

    @property
    def claims(self) -> tuple[JudgedClaim, ...]:
        return tuple(claim for step in self.steps for claim in step.claims)

    @property
    def counts(self) -> dict[str, int]:
        """How many claims hold, fail, cannot be tested."""
        return counts(self.claims)

    @property
    def lead(self) -> str:
        """One sentence: what was re-run on what, and how it came out."""
        whose = (
            "the paper's model (by shape and name; weights are not compared)"
            if self.comparable
            else "another model than the paper's"
        )
        return (
            f"{self.study} ({self.source}) on {self.model}, {whose}; n={self.n_pairs} prompts, means over "
            f"{self.n_reference}: of {len(self.claims)} claims {tally(self.claims)}"
        )

    def claim_rows(self, *, data: bool = False) -> list[dict[str, Any]]:
        """One row per claim, with the step that tested it."""
        first, rows = ("claim", "paper", "here", "verdict"), []
        for name, claim in [(step.name, claim) for step in self.steps for claim in step.claims]:
            row = claim.row(data=data)
            rows.append({"step": name, **{k: row.pop(k) for k in first}, "criterion": claim.criterion})
            rows[-1] |= row if data else {}
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The document of ``study.json``, with its digest."""
        content = {
            "study": self.study,
            "source": self.source,
            "model": self.model,
            "comparable": self.comparable,
            "n_pairs": self.n_pairs,
            "n_reference": self.n_reference,
            "verdicts": self.counts,
            "steps": [step.to_dict() for step in self.steps],
            "heads": [] if self.circuit is None else list(self.circuit.heads),
            "setting": dict(self.setting),
            "folder": str(self.folder),
        }
        return STUDY.document(content)

    def tables(self) -> dict[str, str]:
        """File name -> CSV of every table, and of the claims."""
        found = {"claims.csv": csv_text(self.claim_rows(data=True))}
        for i, step in enumerate(self.steps, start=1):
            for k, rows in enumerate(step.tables.values()):
                if rows:
                    found[f"{i:02d}-{step.name}{f'-{k + 1}' if k else ''}.csv"] = csv_text(
                        [plain(r) for r in rows]
                    )
        return found

    def __repr__(self) -> str:
        return printable(f"<Reproduction {self.lead}>")


@saves(Reproduction)
def save_study(found: Reproduction, path: str | os.PathLike[str]) -> Path:
    """Write a study, and its circuit beside it; a path without ``.json`` is a folder: its ``study.json``."""
    file = file_at(path, STUDY_NAME)
    if found.circuit is not None:
        save_circuit(found.circuit, file.with_name(CIRCUIT_NAME))
    return write_atomic(file, dump(found.to_dict(), where=STUDY_NAME, indent=1))


def load_study(path: str | os.PathLike[str]) -> Reproduction:
    """Read a study that was re-run, with the circuit beside it.

    Raises:
        RunError: if it is missing, cut off, of another format, or was changed.
    """
    file = Path(path) / STUDY_NAME if os.path.isdir(path) else Path(path)
    content = STUDY.load(file).content
    circuit = file.with_name(CIRCUIT_NAME)
    same = ("study", "source", "model", "comparable", "n_pairs", "n_reference", "setting")
    return Reproduction(
        steps=tuple(StepResult.of(step) for step in content.steps),
        circuit=load_circuit(circuit) if content.heads and circuit.is_file() else None,
        folder=file.parent,
        **{name: getattr(content, name) for name in same},
    )
