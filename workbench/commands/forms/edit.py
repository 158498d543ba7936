"""The options of ``workbench edit``: standing changes to how a model computes: made, shown, stacked, measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.commands.forms.shared import (
    MODEL,
    OUT,
    SETTING,
    OnModel,
    limited,
    model_named,
    seeded,
    split_named,
    task_named,
)
from workbench.commands.told import Listing
from workbench.core.command import ABOUT, OPENING, Command, argument, command, option
from workbench.core.job import Job
from workbench.edits.edit import ModelEdit
from workbench.edits.file import describe_edit, load_edit, save_edit
from workbench.edits.making import edit_rows, make_edit
from workbench.edits.stacked import stack

SETTINGS = (
    f"{SETTING} Lists are comma-separated. Positions (keys, queries, recipients) are names or numbers "
    "within the prompt that is run: 0 is its first token, -1 its last, whatever the query."
)


def saved(edit: ModelEdit, out: Path) -> dict[str, Any]:
    """Say what was saved, and where."""
    return {"kind": edit.kind, "edit": edit.describe(), "folder": str(save_edit(edit, out))}


def folder_named() -> Path:
    """Declare where an edit is saved."""
    return option("-o", "--out", help=f"{OUT} A folder; another edit in it is never replaced.")


@command("edit list", offers=())
@dataclass(frozen=True, kw_only=True)
class ListEdits(Command):
    """Say which kinds of edits there are.

    Example: workbench edit list
    """

    def run(self, job: Job) -> Listing:
        return Listing(rows=edit_rows())


@command("edit make", offers=())
@dataclass(frozen=True, kw_only=True)
class MakeEdit(Command):
    """Make an edit from words and save it.

    Example: workbench edit make rows --set heads=a0.h0 --set operation=drop --set keys=0 -o edits/no-bos
    """

    kind: str = argument("{edits}; workbench edit list says which can be made from words.")
    out: Path = folder_named()
    settings: tuple[str, ...] = option("--set", help=SETTINGS, default=())
    model: str | None = option(
        "-m",
        "--model",
        help=f"{MODEL} Refuse heads it does not have; no weights are read.",
        default=None,
        env="WORKBENCH_MODEL",
        place=ABOUT,
    )
    offline: bool = option(
        "--offline", help="Never ask the Hub.", default=False, env="HF_HUB_OFFLINE", place=OPENING
    )

    def run(self, job: Job) -> dict[str, Any]:
        edit = make_edit(self.kind, self.settings, model=self.model, offline=self.offline or None)
        return saved(edit, self.out)


@command("edit show", offers=())
@dataclass(frozen=True, kw_only=True)
class ShowEdit(Command):
    """Show a saved edit, read strictly.

    Example: workbench edit show edits/no-bos
    """

    folder: Path = argument("A saved edit: the folder that has edit.json.")

    def run(self, job: Job) -> dict[str, Any]:
        return describe_edit(self.folder)


@command("edit stack", offers=())
@dataclass(frozen=True, kw_only=True)
class StackEdits(Command):
    """Put saved edits together, in this order, as one.

    Example: workbench edit stack edits/no-bos edits/calibrated -o edits/both
    """

    folders: tuple[Path, ...] = argument("Saved edits, in the order in which they apply.")
    out: Path = folder_named()

    def run(self, job: Job) -> dict[str, Any]:
        return saved(stack([load_edit(folder) for folder in self.folders]), self.out)


@command(
    "edit measure",
    run="workbench.commands.edit:measure",
    check="workbench.commands.asked.edit:check_measuring",
    out="A folder for table and run record. Default: nothing is kept.",
)
@dataclass(frozen=True, kw_only=True)
class MeasureEdit(OnModel):
    """Measure an edit: accuracy, loss and metric with and without it, paired, with intervals.

    Example: workbench edit measure edits/no-bos -m zoo:ioi -t ioi --beside greater-than -o runs/no-bos
    """

    edit: Path = argument("A saved edit: the folder that has edit.json.", metavar="FOLDER")
    model: str = model_named()
    task: str = task_named()
    beside: tuple[str, ...] = option(
        "--beside", help="An unrelated task, to see what else the edit changes; may be repeated.", default=()
    )
    text: Path | None = option(
        "--text", help="A text file on which predictions of the next token are measured.", default=None
    )
    window: int = option("--window", help="Tokens of each window of the text.", default=64, least=4)
    limit: int | None = limited()
    split: str = split_named()
    seed: int = seeded()

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.out is None:
            yield "nothing is kept; -o FOLDER keeps it with a run record"
