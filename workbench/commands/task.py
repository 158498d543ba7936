"""``workbench task``: what tasks there are, what their prompts look like, and whether a file of pairs works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.asked.inputs import check_files, check_opening
from workbench.commands.forms.shared import (
    MODEL,
    OUT,
    Found,
    corruption_named,
    limited,
    seeded,
    split_named,
    task_options_given,
)
from workbench.commands.told import STDOUT, Listing, Output
from workbench.core.command import ABOUT, Command, argument, command, option
from workbench.core.job import Job
from workbench.core.registry import load
from workbench.tasks.check import CheckReport, check_pairs
from workbench.tasks.importers import ImportedPairs, Request, import_pairs
from workbench.tasks.pairs import Pairs
from workbench.tasks.pairs_file import refuse
from workbench.tasks.registry import get_task, list_tasks, make_pairs, parse_options
from workbench.tasks.task_page import TaskPage, task_page

if TYPE_CHECKING:
    from workbench.tasks.reading import Reading


def written(pairs: Pairs, out: Path) -> Output:
    """Return pairs as a file, or as text for standard output."""
    path = out if out == STDOUT else Path(pairs.save(out))
    return Output(text=pairs.to_jsonl() if out == STDOUT else "", path=path, facts={"pairs": len(pairs)})


def file_named() -> Any:
    """Declare where pairs are written."""
    return option("-o", "--out", help=f"{OUT} A .jsonl file; - is standard output.")


@command("task list", offers=())
@dataclass(frozen=True, kw_only=True)
class ListTasks(Command):
    """List the tasks that can be made.

    Example: workbench task list
    """

    def run(self, job: Job) -> Listing:
        tasks = [task.to_dict() for task in list_tasks()]
        columns = ("name", "describe", "metric", "corruptions", "positions", "regions")
        return Listing(rows=tasks, shown=[{key: task[key] for key in columns} for task in tasks])


@dataclass(frozen=True, kw_only=True)
class ReadBy(Found):
    """Options of a command that may read pairs with a model's tokenizer."""

    model: str | None = option("-m", "--model", help=MODEL, default=None, place=ABOUT)

    def reading(self) -> Reading | None:
        """Say how the model reads text; torch is loaded after all that is named was looked for."""
        if self.model is None:
            return None
        whose = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        return load("workbench.model.from_files:reading_of")(
            self.model, offline=self.offline or None, **whose
        )

    def look_for(self, **others: Any) -> None:
        """Do nothing if the model is there, or none is asked."""
        if self.model is not None:
            check_opening(model=self.model, offline=self.offline, revision=self.revision, **others)


@dataclass(frozen=True, kw_only=True)
class DrawnPairs(Command):
    """How pairs of a task are drawn."""

    limit: int = limited(default=100)
    split: str = split_named()
    corruption: str | None = corruption_named()
    task_options: tuple[str, ...] = task_options_given(before=("--option",))
    seed: int = seeded()

    def how(self) -> dict[str, Any]:
        """Say how many, which ones, and how they are corrupted."""
        return {"n": self.limit, "seed": self.seed, "split": self.split, "corruption": self.corruption}


@command("task show", offers=())
@dataclass(frozen=True, kw_only=True)
class ShowTask(ReadBy, DrawnPairs):
    """Show what a task is and some of its pairs, positions in brackets.

    Example: workbench task show ioi -m zoo:ioi --task-option order=abba
    """

    name: str = argument("A task (workbench task list), or a .jsonl file of pairs.")
    model: str | None = option(
        "-m",
        "--model",
        help=f"{MODEL} Also show what its tokenizer makes of them.",
        default=None,
        place=ABOUT,
    )
    limit: int = limited(default=3)

    def check(self, job: Job) -> None:
        self.look_for(task=self.name, split=self.split, corruption=self.corruption)

    def run(self, job: Job) -> TaskPage:
        return task_page(self.name, reading=self.reading(), options=self.task_options, **self.how())


@command("task make", offers=())
@dataclass(frozen=True, kw_only=True)
class MakePairs(DrawnPairs):
    """Write pairs of a task to a file, to look at, edit or hand on.

    Example: workbench task make ioi -n 200 -o ioi.jsonl
    """

    name: str = argument("A task (workbench task list).")
    out: Path = file_named()

    def run(self, job: Job) -> Output:
        options: dict[str, Any] = parse_options(get_task(self.name), list(self.task_options))
        return written(make_pairs(self.name, **self.how(), **options), self.out)

    def said(self, result: Output, job: Job) -> Iterator[str]:
        yield f"wrote {result.facts['pairs']} pairs to {'standard output' if result.raw else result.path}"


@command("task check", offers=())
@dataclass(frozen=True, kw_only=True)
class CheckPairs(ReadBy):
    """Check a file of pairs line by line; exit code 3 when a line does not pass.

    Example: workbench task check my-pairs.jsonl -m zoo:ioi
    """

    file: Path = argument("A .jsonl file of pairs; - is standard input.")
    model: str | None = option(
        "-m", "--model", help=f"{MODEL} Check against its tokenizer too.", default=None, place=ABOUT
    )

    def check(self, job: Job) -> None:
        self.look_for(task=None if self.file == STDOUT else str(self.file))

    def run(self, job: Job) -> CheckReport:
        return check_pairs(self.file, reading=self.reading())

    def exit_code(self, result: CheckReport) -> int:
        return 0 if result.passes else 3


@command("task import", offers=())
@dataclass(frozen=True, kw_only=True)
class ImportPairs(ReadBy):
    """Turn another tool's file of pairs into a .jsonl file.

    Example: workbench task import eap-ig ioi/gpt2.csv -m gpt2 -o ioi.jsonl
    """

    format: str = argument("{pair_imports}.", metavar="FORMAT")
    file: Path = argument("The file to read.")
    out: Path = file_named()
    model: str | None = option(
        "-m", "--model", help=f"{MODEL} The one whose token ids the file holds.", default=None, place=ABOUT
    )
    layout: str = option("--layout", help="Column layout of an EAP-IG csv.", default="")
    counterfactual: str = option(
        "--counterfactual", help="Which counterfactual of a MIB row is the corrupted prompt.", default=""
    )
    corrupted: str = option("--corrupted", help="Column with the corrupted prompt.", default="")
    skip: bool = option("--skip", help="Leave out rows that cannot be used, and say so.", default=False)

    def check(self, job: Job) -> None:
        if self.model is not None:
            check_files([self.file])
            self.look_for()

    def run(self, job: Job) -> Output:
        reading = self.reading()
        own = {name: getattr(self, name) for name in ("layout", "counterfactual", "corrupted")}
        request = Request(tokenizer=None if reading is None else reading.tokenizer, **own)
        found = import_pairs(self.format, self.file, request=request)
        if not self.skip or not len(found.pairs):
            refuse(found.problems, str(self.file))
        return _imported(found, self.out, job)

    def said(self, result: Output, job: Job) -> Iterator[str]:
        left = f"; left out {result.facts['left_out']} rows" if result.facts["left_out"] else ""
        where = "standard output" if result.raw else result.path
        yield f"wrote {result.facts['pairs']} pairs to {where}{left}"


def _imported(found: ImportedPairs, out: Path, job: Job) -> Output:
    """The pairs of a foreign file written, and what of it could not be used told."""
    for problem in found.problems[:20]:
        job.note(f"left out: {problem}")
    made = written(found.pairs, out)
    left = found.n_rows - len(found.pairs) if found.problems else 0
    return Output(text=made.text, path=made.path, facts={**made.facts, "left_out": left})
