"""``workbench runs``: what has been run, what became of it, again, compared, tidied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.commands.again import rerun, resume
from workbench.commands.forms.shared import METRIC, OUT
from workbench.commands.merge import merge
from workbench.core.command import JOB, Command, argument, command, option
from workbench.core.job import Job
from workbench.core.show import Told
from workbench.engine.run_folders.consent import Consent
from workbench.engine.run_folders.differences import RunDifference, compare_runs
from workbench.engine.run_folders.leftovers import Tidied, tidy
from workbench.engine.run_folders.past_runs import (
    ROOTS,
    PastRun,
    duration,
    find_runs,
    look_at,
    roots_of,
    size,
    unmerged,
)
from workbench.engine.run_folders.verification import Verification, verify


def folder_named() -> Any:
    """Declare the run that a command is about."""
    return argument("The folder of a run: the one with run.json.")


def roots_named(what: str = "Folders with runs, at any depth.") -> Any:
    """Declare where runs are looked for."""
    return argument(f"{what} Default: runs and circuits.", default=())


@dataclass(frozen=True, kw_only=True)
class FoundRuns(Told):
    """The runs in some folders."""

    roots: tuple[Path, ...]
    runs: tuple[PastRun, ...]

    def to_dict(self) -> list[dict[str, Any]]:
        """Return it as JSON values."""
        return [run.row() for run in self.runs]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [
            {
                **{name: row[name] for name in ("folder", "what", "model", "task")},
                "does the task": row["does_task"],
                **{name: row[name] for name in ("status", "when")},
                "took": duration(row["seconds"]),
                "size": size(row["bytes"]),
            }
            for row in self.to_dict()
        ] or ["no runs here"]

    def notes(self) -> Iterator[str]:
        """Say what is to be done with them, and where was looked."""
        for folder in unmerged(self.runs):
            yield f"shards of {folder} are not put together yet: workbench runs merge {folder}"
        usual = " or ".join(map(str, ROOTS))
        looked = f"looked in {', '.join(map(str, self.roots))}" if self.roots else f"no folder {usual} here"
        yield f"{looked}; runs written elsewhere: workbench runs list FOLDER"


@command("runs list", offers=())
@dataclass(frozen=True, kw_only=True)
class ListRuns(Command):
    """List the runs in some folders: what, on what, finished or not, when, how long, how large.

    Example: workbench runs list
    """

    folders: tuple[Path, ...] = roots_named()

    def run(self, job: Job) -> FoundRuns:
        folders = self.folders or None
        return FoundRuns(roots=tuple(roots_of(folders)), runs=tuple(find_runs(folders)))

    def said(self, result: FoundRuns, job: Job) -> Iterator[str]:
        return result.notes()


@command("runs page", run="workbench.commands.runs_page:write_page", offers=())
@dataclass(frozen=True, kw_only=True)
class PageOfRuns(Command):
    """Write all runs of some folders into one page: a table to filter and sort, and curves over circuits.

    Example: workbench runs page -o runs.html
    """

    folders: tuple[Path, ...] = roots_named()
    out: Path = option(
        "-o", "--out", help=f"{OUT} A page.", default=Path("runs.html"), place=JOB, recorded=False
    )

    def said(self, result: Any, job: Job) -> Iterator[str]:
        yield f"wrote {self.out}"


@command("runs show", offers=())
@dataclass(frozen=True, kw_only=True)
class ShowRun(Command):
    """Show everything recorded of a run, and the line to type for the same.

    Example: workbench runs show runs/ablate/ioi/zoo-ioi-1f3a77c0
    """

    folder: Path = folder_named()

    def run(self, job: Job) -> PastRun:
        return look_at(self.folder)


@dataclass(frozen=True, kw_only=True)
class WithConsent(Command):
    """Which code of a record may run."""

    metric: str | None = option(
        "--metric",
        help=f"{METRIC} The one that the run names, to let its code run again.",
        default=None,
    )
    trust_code: bool = option(
        "--trust-code",
        help="Run all code that the record of the run names; it is shown first.",
        default=False,
    )

    def how(self, job: Job) -> dict[str, Any]:
        """Say what this command line lets run, and who is told; what is trusted is told also when quiet."""
        consent = Consent(metric=self.metric, trust_code=self.trust_code, tell=job.warn)
        return {"consent": consent, "progress": job.progress, "note": job.note}


@command("runs resume", offers=())
@dataclass(frozen=True, kw_only=True)
class ResumeRun(WithConsent):
    """Continue an interrupted or killed run from its record alone.

    Code that the record names, such as a metric of one's own, runs only with --metric or --trust-code.

    Example: workbench runs resume runs/ablate/ioi/zoo-ioi-1f3a77c0
    """

    folder: Path = folder_named()

    def run(self, job: Job) -> Any:
        result = resume(self.folder, **self.how(job))
        return look_at(self.folder) if result is None else result


@command("runs rerun", offers=())
@dataclass(frozen=True, kw_only=True)
class RepeatRun(WithConsent):
    """Repeat a run from its record into another folder; nothing is ever overwritten.

    Code that the record names, such as a metric of one's own, runs only with --metric or --trust-code.

    Example: workbench runs rerun runs/ablate/ioi/zoo-ioi-1f3a77c0 -o again
    """

    folder: Path = folder_named()
    out: Path | None = option(
        "-o", "--out", help=f"{OUT} A new or empty folder. Default: FOLDER-again.", default=None
    )

    def run(self, job: Job) -> Any:
        to, result = rerun(self.folder, self.out, **self.how(job))
        job.note(f"wrote {to}; which numbers moved: workbench runs diff {self.folder} {to}")
        return result


@command("runs merge", offers=())
@dataclass(frozen=True, kw_only=True)
class MergeShards(WithConsent):
    """Put the shards of one run together: the same result, to the last bit, as one process would have written.

    Example: workbench runs merge runs/ablate/ioi/zoo-ioi-1f3a77c0
    """

    folders: tuple[Path, ...] = argument("Folders of shards, or the folder that has them all in it.")
    out: Path | None = option(
        "-o", "--out", help=f"{OUT} Default: the folder that the shards are in.", default=None
    )

    def run(self, job: Job) -> Any:
        folder, result = merge(self.folders, self.out, **self.how(job))
        job.note(f"wrote {folder}")
        return result


@command("runs diff", offers=())
@dataclass(frozen=True, kw_only=True)
class CompareRuns(Command):
    """Say which numbers moved between two runs, and by how much. Exit code 3 if one moved beyond the tolerance.

    Example: workbench runs diff runs/ablate/ioi/zoo-ioi-1f3a77c0 again --tolerance 1e-6
    """

    folder: Path = folder_named()
    other: Path = argument("The folder to compare with.")
    tolerance: float = option(
        "--tolerance",
        help="Largest change that passes: relative to the number, absolute where it is below 1.",
        default=0.0,
    )

    def run(self, job: Job) -> RunDifference:
        return compare_runs(self.folder, self.other, tolerance=self.tolerance)

    def exit_code(self, result: RunDifference) -> int:
        return 0 if result.within else 3


@command("runs clean", offers=())
@dataclass(frozen=True, kw_only=True)
class CleanRuns(Command):
    """Show what runs left behind and nobody needs, and remove it with --yes; never a result.

    Half-written files, parts of finished tables, locks that nobody holds. Results, records and shards stay,
    and runs that are going on are left alone.

    Example: workbench runs clean --yes
    """

    folders: tuple[Path, ...] = roots_named()
    yes: bool = option("--yes", help="Remove it. Without this it is only shown.", default=False)

    def run(self, job: Job) -> Tidied:
        return tidy(self.folders or None, remove=self.yes)


@command("runs verify", offers=())
@dataclass(frozen=True, kw_only=True)
class VerifyRuns(Command):
    """Say for every file whether it is as it was written. Exit code 3 if one was changed, is missing or unreadable.

    Each file has a digest over its content, and the record of a run has one of every file of its results.

    Example: workbench runs verify runs circuits
    """

    places: tuple[Path, ...] = roots_named("Folders with runs, at any depth, or single files.")

    def run(self, job: Job) -> Verification:
        return verify(self.places or None)

    def exit_code(self, result: Verification) -> int:
        return 0 if result.passed else 3
