"""The options of ``edit measure``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import LIMIT, SEED, SPLIT, OnModel, model_named, task_named
from workbench.core.command import PAIRS, argument, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


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
        "--beside", help="An unrelated task: what else changes; may be repeated.", default=()
    )
    text: Path | None = option("--text", help="A text file: next-token accuracy and loss.", default=None)
    window: int = option("--window", help="Tokens of each window of the text.", default=64, least=4)
    limit: int | None = option(
        "-n",
        "--limit",
        help=f"{LIMIT} Default: 64 of a task, all of a file.",
        default=None,
        least=1,
        place=PAIRS,
    )
    split: str = option("--split", help=SPLIT, default="test", place=PAIRS)
    seed: int = option("--seed", help=SEED, default=0, place=PAIRS)

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.out is None:
            yield "nothing is kept; -o FOLDER keeps it with a run record"
