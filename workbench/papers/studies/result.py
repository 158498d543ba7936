"""What a reproduction found: every step's tables and claims, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.csv_text import csv_text
from workbench.core.claims import JudgedClaim, counts, plain, tally
from workbench.core.text import printable
from workbench.papers.studies.file import STUDY
from workbench.papers.studies.kinds import StepResult


@dataclass(frozen=True, kw_only=True, eq=False)
class Reproduction:
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

    def claim_rows(self) -> list[dict[str, Any]]:
        """One row per claim, with the step that tested it."""
        return [
            {
                "step": step.name,
                "claim": claim.claim,
                "paper": claim.paper,
                "here": claim.found if claim.found is not None else claim.why or None,
                "verdict": claim.verdict,
                "criterion": claim.criterion,
            }
            for step in self.steps
            for claim in step.claims
        ]

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

    def to_terminal(self) -> list[Any]:
        """What the command line prints: each step's tables, then the claims with their verdicts."""
        parts: list[Any] = []
        for i, step in enumerate(self.steps, start=1):
            parts.append(f"{i}. {step.title}")
            for caption, rows in step.tables.items():
                parts += [*([caption] if caption else []), [plain(row) for row in rows] or "none"]
        shown = [{k: v for k, v in row.items() if k != "criterion"} for row in self.claim_rows()]
        return [*parts, "Claims", shown, self.lead]

    def report(self) -> str:
        """The page to read: lead, claims with criteria, the circuit, every table. No network."""
        from workbench.circuits.show.circuit_svg import circuit_svg
        from workbench.view.html import results_page, table_html, text_html

        sections = [("Claims", table_html(self.claim_rows()))]
        if self.circuit is not None:
            sections.append(("The circuit found here", circuit_svg(self.circuit, heading=False)))
        for i, step in enumerate(self.steps, start=1):
            tables = [
                table_html([plain(row) for row in rows], caption=caption)
                for caption, rows in step.tables.items()
                if rows
            ]
            if tables:
                sections.append((f"{i}. {step.title}", "".join(tables)))
        from workbench.circuits.published import load_published
        from workbench.papers.studies.registry import find_study

        unsure = load_published(find_study(self.study).published).provenance["uncertain"]
        sections.append(("What is uncertain in the published record", text_html("\n\n".join(unsure))))
        return results_page(f"{self.study} on {self.model}", sections, lead=self.lead)

    def tables(self) -> dict[str, str]:
        """File name -> CSV of every table, and of the claims."""
        found = {"claims.csv": csv_text(self.claim_rows())}
        for i, step in enumerate(self.steps, start=1):
            for k, rows in enumerate(step.tables.values()):
                if rows:
                    found[f"{i:02d}-{step.name}{f'-{k + 1}' if k else ''}.csv"] = csv_text(
                        [plain(r) for r in rows]
                    )
        return found

    def _repr_html_(self) -> str:
        from workbench.view.html import table_html, text_html

        return text_html(self.lead) + table_html(self.claim_rows())

    def __repr__(self) -> str:
        return printable(f"<Reproduction {self.lead}>")
