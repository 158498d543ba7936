"""A replication on one model: its claims with verdicts, and how they are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from workbench.circuits.files.csv_text import csv_text
from workbench.circuits.files.markdown import table, words
from workbench.core.atomic import file_at, write_atomic
from workbench.core.claims import counts, plain, tally
from workbench.core.file_kind import Origin
from workbench.core.show import Shown, saves
from workbench.core.strict_json import dump
from workbench.papers.file import REPLICATION, REPLICATIONS, RESULT, ReplicationContent
from workbench.papers.kinds import Findings, Replicable
from workbench.papers.registry import find_paper
from workbench.view.text import number, printable

ALL = "all.json"  # what ``replicate all`` writes
SURVEYED = "a survey, without claims of its own"
MARKUP = (
    "version 1 kept pictures as markup: {n} are not shown, because no markup is read from a file. Claims, tables and "
    "numbers are those of the file. For the pictures measure again: workbench replicate {name} -m {model} --out NEW"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(Shown, shown_in="workbench.papers.show", saved_in="workbench.papers.result"):
    """What a replication found on a model.

    Attributes:
        plan: Everything that decided the numbers.
        seconds: Time it took by the clock, opening the model included.
        core_seconds: Of the processor, all threads together; another load of the machine changes it little.
        notes: What must be said about the file that this was read from.
    """

    name: str
    title: str
    source: str
    about: str
    controls: tuple[str, ...]
    model: str
    findings: Findings
    plan: Mapping[str, Any]
    seconds: float
    folder: Path
    core_seconds: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, replication: Replicable, **measured: Any) -> Result:
        """The result of a replication."""
        named = {k: getattr(replication, k) for k in ("name", "about", "controls")}
        paper = find_paper(replication.name)
        return cls(title=paper.title, source=paper.source, **named, **measured)

    @property
    def lead(self) -> str:
        """One sentence: what was measured on what, and how it came out."""
        claims = self.findings.claims
        if not claims:
            return f"{self.name} on {self.model}: {SURVEYED} ({self.seconds:.0f} s)"
        return f"{self.name} on {self.model}: of {len(claims)} claims {tally(claims)} ({self.seconds:.0f} s)"

    def claim_rows(self, *, data: bool = False) -> list[dict[str, Any]]:
        """One row per claim: what people read first; with the model where not all are about the one asked for."""
        several = any(claim.model for claim in self.findings.claims)
        rows = []
        for claim in self.findings.claims:
            model = {"model": claim.model or self.model} if several else {}
            rows.append({"claim": claim.claim, **model} | claim.row(data=data))
        return rows

    def criteria_rows(self) -> list[dict[str, Any]]:
        """One row per claim: how it was decided and why so."""
        return [
            {
                "claim": claim.claim,
                "criterion": claim.criterion,
                "why this criterion": claim.reason,
                "source": claim.source,
                "why it cannot be tested": claim.why,
            }
            for claim in self.findings.claims
        ]

    def to_dict(self) -> dict[str, Any]:
        """The document of ``replication.json``, with its digest."""
        return REPLICATION.document(
            {
                "replication": self.name,
                "title": self.title,
                "source": self.source,
                "about": self.about,
                "controls": list(self.controls),
                "model": self.model,
                "verdicts": counts(self.findings.claims),
                **self.findings.to_dict(),
                "plan": dict(self.plan),
                "seconds": self.seconds,
                "folder": str(self.folder),
                **({} if self.core_seconds is None else {"core_seconds": self.core_seconds}),
            }
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: Path) -> Result:
        """Read what ``to_dict`` wrote; the folder is where it was found.

        Raises:
            RunError: if it is another format, a part is missing or of another type, or it was changed.
        """
        content, origin = REPLICATION.check(data, where=f"the replication in {folder}")
        REPLICATION.say(origin)
        return cls.of_file(content, origin, folder)

    @classmethod
    def of_file(cls, content: ReplicationContent, origin: Origin, folder: Path) -> Result:
        """The result that a file holds, and what must be said about the file."""
        named = {
            k: getattr(content, k) for k in ("title", "source", "about", "model", "seconds", "core_seconds")
        }
        lost = content.pictures_not_read
        said = MARKUP.format(n=lost, name=content.replication, model=content.model) if lost else ""
        return cls(
            name=content.replication,
            controls=tuple(content.controls),
            findings=Findings.of(content),
            plan=msgspec.to_builtins(content.plan),
            folder=folder,
            notes=(*origin.notes, *([said] if said else [])),
            **named,
        )

    def tables(self) -> dict[str, str]:
        """File name -> CSV of the claims and of every table."""
        found = {"claims.csv": csv_text(self.claim_rows(data=True))}
        for i, rows in enumerate(self.findings.tables.values(), start=1):
            found[f"table-{i:02d}.csv"] = csv_text([plain(row) for row in rows])
        return found

    def __repr__(self) -> str:
        return printable(f"<Replication {self.lead}>")


@dataclass(frozen=True, kw_only=True, eq=False)
class Results(Shown, shown_in="workbench.papers.show", saved_in="workbench.papers.result"):
    """Several replications on one page.

    Attributes:
        failed: Name -> why a replication gave no result.
    """

    results: Sequence[Result]
    failed: Mapping[str, str]
    folder: Path

    @property
    def lead(self) -> str:
        claims = [claim for result in self.results for claim in result.findings.claims]
        seconds = sum(result.seconds for result in self.results)
        gone = f"; {len(self.failed)} gave no result" if self.failed else ""
        return (
            f"{len(self.results)} replications, {len(claims)} claims: {tally(claims)}{gone} ({seconds:.0f} s)"
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per claim of every replication."""
        return [
            {"replication": result.name, "model": result.model} | row
            for result in self.results
            for row in result.claim_rows()
        ]

    def to_dict(self) -> dict[str, Any]:
        return REPLICATIONS.document(
            {
                "lead": self.lead,
                "verdicts": counts(claim for result in self.results for claim in result.findings.claims),
                "results": [result.to_dict() for result in self.results],
                "failed": dict(self.failed),
                "folder": str(self.folder),
            }
        )

    def markdown(self) -> str:
        """All claims as tables of Markdown, for a page of documentation."""
        parts = [words(f"{self.lead}.")]
        for result in self.results:
            rows = [{k: _shown(v) for k, v in row.items()} for row in result.claim_rows()]
            model = result.model.replace("`", "'")
            parts += [
                f"**{words(result.name)}** on `{printable(model)}` ({words(result.source)})",
                table(rows) if rows else "No claims of its own: a survey.",
            ]
        return "\n\n".join(parts)


@saves(Result)
def save_replication(found: Result, path: str | os.PathLike[str]) -> Path:
    """Write a replication, whole or not at all; a path without ``.json`` is a folder: its ``replication.json``."""
    return write_atomic(file_at(path, RESULT), dump(found.to_dict(), where=RESULT, indent=1))


def load_replication(path: str | os.PathLike[str]) -> Result:
    """Read a replication, or the one in a folder.

    Raises:
        RunError: if it is missing, cut off, of another format, or was changed.
    """
    file = Path(path) / RESULT if os.path.isdir(path) else Path(path)
    opened = REPLICATION.load(file)
    return Result.of_file(opened.content, opened.origin, file.parent)


@saves(Results)
def save_replications(found: Results, path: str | os.PathLike[str]) -> Path:
    """Write several replications, whole or not at all; a path without ``.json`` is a folder: its ``all.json``."""
    return write_atomic(file_at(path, ALL), dump(found.to_dict(), where=ALL, indent=1))


def load_replications(path: str | os.PathLike[str]) -> Results:
    """Read what ``replicate all`` wrote, or the one in a folder; each replication is read as strictly as its own file.

    Returns:
        The replications, each with the folder that it was written to.

    Raises:
        RunError: if it is missing, cut off, of another format, or was changed.
    """
    file = Path(path) / ALL if os.path.isdir(path) else Path(path)
    content = REPLICATIONS.load(file).content
    results = [Result.from_dict(one, Path(str(one.get("folder", "")))) for one in content.results]
    return Results(results=results, failed=dict(content.failed), folder=Path(content.folder))


def _shown(value: Any) -> str:
    """A cell as text: numbers with three digits, whatever else the column holds."""
    return number(value) if isinstance(value, int | float) else "–" if value is None else str(value)
