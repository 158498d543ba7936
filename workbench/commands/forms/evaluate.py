"""The options of ``evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import ABLATION, MODEL, TASK, OnPairs
from workbench.core.command import ABOUT, argument, command, option
from workbench.engine.interventions.words import Ablation

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "evaluate",
    run="workbench.commands.evaluate:evaluate",
    plan="workbench.commands.plans.evaluate:evaluate",
    check="workbench.commands.asked.evaluate:check_evaluation",
    offers=("out", "dry_run", "replace"),
    out="A folder for faithfulness.json, or with --full for evaluation.json. Default: printed only; with --full "
    "beside the circuit.",
    retired=("work",),
)
@dataclass(frozen=True, kw_only=True)
class Evaluate(OnPairs):
    """Measure how much of the behavior a saved circuit keeps; with --full, every verdict with its evidence.

    Example: workbench evaluate circuits/ioi/zoo-ioi/eap-ig-1f3a --full
    """

    circuit: Path = argument(
        "A circuit file, the folder that has circuit.json, or zoo:NAME for a model's known circuit."
    )
    model: str | None = option(
        "-m", "--model", help=f"{MODEL} Default: the circuit's own model.", default=None, place=ABOUT
    )
    task: str | None = option(
        "-t", "--task", help=f"{TASK} Default: the circuit's own task.", default=None, place=ABOUT
    )
    full: bool = option(
        "--full",
        help="Ask every question: complete, minimal, robust, stable and more. Writes evaluation.json and a page.",
        default=False,
    )
    ablation: Ablation = option("--ablation", help=ABLATION, default="resample")
    random_draws: int | None = option(
        "--random",
        help="How many random circuits of each size stand beside it. Default: 20; with --full 100.",
        default=None,
        least=0,
    )
    edges: int = option(
        "--edges", help="With --full: how many edges are tested one by one at most.", default=100, least=1
    )
    bootstraps: int = option(
        "--bootstraps",
        help="With --full: how many circuits are found again on resampled pairs.",
        default=100,
        least=2,
    )
    refits: int = option(
        "--refits",
        help="The same, for methods that must be run again on each resample.",
        default=10,
        least=2,
    )

    other_task: tuple[str, ...] = option(
        "--other-task",
        help="With --full: a task, or a .jsonl file of pairs, that the circuit should not hurt; may be repeated. "
        "Default: up to five tasks that the model does.",
        default=(),
    )

    @classmethod
    def place(cls, folder: Path, *, resume: bool) -> dict[str, Path]:
        return {"out": folder.parent if resume else folder}

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.dry_run:
            return
        if self.full:
            yield f"wrote {' and '.join(result.files.values())}"
        elif job.out is not None:
            yield f"wrote {job.out}/faithfulness.json"
