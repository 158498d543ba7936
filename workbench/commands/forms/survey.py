"""The options of ``survey``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import (
    METRIC,
    OUT,
    QUICK,
    OnModel,
    corruption_named,
    limited,
    model_named,
    seeded,
    task_named,
    task_options_given,
)
from workbench.core.command import JOB, PAIRS, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "survey",
    run="workbench.commands.survey:survey",
    check="workbench.commands.asked.inputs:check_survey",
    offers=(),
)
@dataclass(frozen=True, kw_only=True)
class SurveyModel(OnModel):
    """Do the work of a first day with a model: heads, sweeps, three circuits, verdicts, as one site of linked pages.

    Every step is a run of its own folder. The same line again goes on where it was stopped.

    Example: workbench survey -m zoo:ioi -t ioi --quick -o survey
    """

    model: str = model_named()
    task: str = task_named()
    metric: str | None = option(
        "--metric", help=f"{METRIC} Default: the task's own.", default=None, place=PAIRS
    )
    limit: int | None = limited()
    corruption: str | None = corruption_named()
    task_options: tuple[str, ...] = task_options_given()
    seed: int = seeded()
    quick: bool = option(
        "--quick",
        help=f"{QUICK} Here 16 pairs, two methods, faithfulness alone in place of all verdicts.",
        default=False,
    )
    out: Path | None = option(
        "-o",
        "--out",
        help=f"{OUT} A folder. Default: surveys/TASK/MODEL.",
        default=None,
        place=JOB,
        recorded=False,
    )

    def on_model(self) -> dict[str, Any]:
        """Say how the model is opened."""
        return {"model": self.model, **{f.name: getattr(self, f.name) for f in fields(OnModel)}}

    def on_pairs(self) -> dict[str, Any]:
        """Say how the model is opened, and which pairs are made for it."""
        pairs = {
            name: getattr(self, name) for name in ("task", "metric", "corruption", "task_options", "seed")
        }
        return {**self.on_model(), **pairs, "limit": 16 if self.quick and self.limit is None else self.limit}

    def said(self, result: Any, job: Job) -> Iterator[str]:
        yield f"wrote {result.index}"
