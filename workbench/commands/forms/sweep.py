"""The options of the sweeps: ``ablate``, ``patch``, ``path-patch``, ``knock-out``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import ABLATION, OnPairs, Spreadable, model_named, task_named
from workbench.core.command import JOB, PAIRS, command, option
from workbench.engine.interventions.words import Ablation, Mlps, Mode, Parts

if TYPE_CHECKING:
    from workbench.core.job import Job

_CHECK = "workbench.commands.asked.sweep:check_sweep"
_OFFERS = ("out", "dry_run", "resume")
_NODE = "An address such as a9.h9 or m3; may be repeated."
_TOGETHER = "Edit all that is named at once, in one row."
_MODE = "denoising: clean into corrupted. noising: corrupted into clean."


@dataclass(frozen=True, kw_only=True)
class Sweep(OnPairs, Spreadable):
    """What all sweeps are asked."""

    model: str = model_named()
    task: str = task_named()
    plot: Path | None = option(
        "--plot",
        help="Also draw the heatmap: a .svg or .png file.",
        default=None,
        place=JOB,
        recorded=False,
    )

    def opening(self) -> dict[str, Any]:
        return {"model": self.model, "task": self.task, **super().opening()}

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.dry_run:
            yield (
                "prompt_passes: one prompt once through all layers; an edit at a later layer counts as the share it "
                "runs. seconds: matrix products alone; importing, opening the model and saving come on top, a few "
                "seconds"
            )
        elif self.shard is not None:
            yield f"wrote {result.folder}; when all shards are done: workbench runs merge {result.folder.parent}"
        else:
            if self.plot is not None:
                yield f"drew {result.effects.save_picture(self.plot)}"
            yield f"wrote {result.folder}/effects.parquet and run.json"


@dataclass(frozen=True, kw_only=True)
class AtPositions(Sweep):
    """What can be asked at single positions."""

    positions: tuple[str, ...] = option(
        "--position",
        help="A named or numbered position; may be repeated; 'each' for all names.",
        default=(),
        place=PAIRS,
    )


@command(
    "ablate",
    run="workbench.commands.sweep:ablate",
    plan="workbench.commands.plans.sweep:ablate",
    check=_CHECK,
    offers=_OFFERS,
    resumes=True,
)
@dataclass(frozen=True, kw_only=True)
class Ablate(AtPositions):
    """Ablate heads, MLPs or layers one by one and measure what the metric loses.

    Example: workbench ablate -m zoo:ioi -t ioi --ablation mean
    """

    parts: Parts = option("--parts", help="heads, mlps, attention or layers.", default="heads")
    node: tuple[str, ...] = option("--node", help=_NODE, default=())
    together: bool = option("--together", help=_TOGETHER, default=False)
    ablation: Ablation = option("--ablation", help=ABLATION, default="resample")
    reference: Path | None = option(
        "--reference", help="Pairs (.jsonl) whose clean prompts give the means.", default=None
    )


@command(
    "patch",
    run="workbench.commands.sweep:patch",
    plan="workbench.commands.plans.sweep:patch",
    check=_CHECK,
    offers=_OFFERS,
    resumes=True,
)
@dataclass(frozen=True, kw_only=True)
class Patch(AtPositions):
    """Patch activations of one run into the other, site by site.

    Example: workbench patch -m zoo:ioi -t ioi --site resid --position each
    """

    site: str = option(
        "--site", help="resid, attn-out, mlp-out, head-output, q, k, v or pattern.", default="head-output"
    )
    node: tuple[str, ...] = option("--node", help=_NODE, default=())
    mode: Mode = option("--mode", help=_MODE, default="denoising")


@command(
    "path-patch",
    run="workbench.commands.sweep:path_patch",
    plan="workbench.commands.plans.sweep:path_patch",
    check=_CHECK,
    offers=_OFFERS,
    resumes=True,
)
@dataclass(frozen=True, kw_only=True)
class PathPatch(AtPositions):
    """Patch the paths from senders to receivers; other heads are held fixed, MLPs recomputed or frozen.

    Example: workbench path-patch -m zoo:ioi -t ioi --receiver logits
    """

    receiver: tuple[str, ...] = option(
        "--receiver", help="a9.h9<q>, a9.g1<k>, m3 or logits; may be repeated."
    )
    sender: tuple[str, ...] = option(
        "--sender", help="a5.h5, m3 or input; may be repeated. Default: all heads.", default=()
    )
    together: bool = option("--together", help=_TOGETHER, default=False)
    mlps: Mlps = option(
        "--mlps", help="recomputed (as for IOI) or frozen (direct paths).", default="recomputed"
    )
    mode: Mode = option("--mode", help=_MODE, default="noising")


@command(
    "knock-out",
    run="workbench.commands.sweep:knock_out",
    plan="workbench.commands.plans.sweep:knock_out",
    check=_CHECK,
    offers=_OFFERS,
    resumes=True,
    retired=("positions",),
)
@dataclass(frozen=True, kw_only=True)
class KnockOutHeads(Sweep):
    """Forbid heads to look from one position at another.

    Example: workbench knock-out -m zoo:ioi -t ioi --query end --key IO
    """

    query: str = option("--query", help="Position that looks: a name or a number.")
    key: str = option("--key", help="Position that may not be looked at.")
    node: tuple[str, ...] = option("--node", help=_NODE, default=())
    together: bool = option("--together", help=_TOGETHER, default=False)
