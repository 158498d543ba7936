"""The options of ``logits``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.circuits.logit_parts import By
from workbench.commands.forms.shared import ABLATION, OUT, OnPairs, model_named, task_named
from workbench.core.command import JOB, command, option
from workbench.engine.interventions.words import Ablation

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "logits",
    run="workbench.commands.logits:logits",
    check="workbench.commands.asked.logits:check_logits",
    offers=(),
)
@dataclass(frozen=True, kw_only=True)
class Logits(OnPairs):
    """Measure what each head, MLP or layer adds to the logits directly, and what the stream says layer by layer.

    Direct logit attribution and the logit lens, beside the effect of ablating the part and where heads look.

    Example: workbench logits -m zoo:ioi -t ioi -o logits.html
    """

    model: str = model_named()
    task: str = task_named()
    by: By = option(
        "--by", help="head: every head and MLP; layer: attention and MLP of each.", default="head"
    )
    ablation: Ablation = option("--ablation", help=ABLATION, default="resample")
    no_effects: bool = option(
        "--no-effects", help="Leave out the ablation of each part, which takes the longest.", default=False
    )
    out: Path | None = option(
        "-o", "--out", help=f"{OUT} A page. Default: none.", default=None, place=JOB, recorded=False
    )
    plot: Path | None = option(
        "--plot",
        help="Also draw the heatmap: a .svg or .png file.",
        default=None,
        place=JOB,
        recorded=False,
    )

    def opening(self) -> dict[str, Any]:
        return {"model": self.model, "task": self.task, "work": "edges", **super().opening()}

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if self.plot is not None:
            yield f"drew {self.plot}"
        if self.out is not None:
            yield f"wrote {self.out}"
