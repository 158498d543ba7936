"""The options of ``discover`` and ``demo``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import (
    KEEP,
    METHOD,
    MODEL,
    OnModel,
    OnPairs,
    Spreadable,
    limited,
    model_named,
    seeded,
    split_named,
    task_named,
)
from workbench.core.command import ABOUT, PAIRS, command, option
from workbench.core.registry import load
from workbench.methods.registry import Level

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "discover",
    run="workbench.commands.discover:discovery",
    plan="workbench.commands.plans.discover:discovery",
    check="workbench.commands.asked.discover:check_search",
    offers=("out", "dry_run", "resume"),
    resumes=True,
)
@dataclass(frozen=True, kw_only=True)
class Discover(OnPairs, Spreadable):
    """Find a circuit: score every edge (or node), keep the best, judge it on other prompts, save it.

    Example: workbench discover -m zoo:ioi -t ioi --method eap-ig --keep 5%
    """

    model: str = model_named()
    task: str = task_named()
    method: str = option(
        "--method",
        help=METHOD + " {methods}; workbench methods says more.",
        default="eap-ig",
    )
    keep: str | None = option(
        "--keep",
        help=f"{KEEP} Or own (as the method decides). Default: own where it does, else 5%.",
        default=None,
    )
    level: Level | None = option(
        "--level", help="edge, node or neuron. Default: the method's first.", default=None
    )
    per_position: bool = option("--per-position", help="Score every named position by itself.", default=False)
    with_tower: bool = option(
        "--with-tower",
        help="Edges of the tower that sees too: through the projector into the language model, or beside the tower for "
        "captions.",
        default=False,
    )
    signed: bool | None = option(
        "--signed/--absolute",
        help="Rank parts by how much they help, or by size whatever the sign. Default: as the method does.",
        default=None,
    )
    greedy: bool | None = option(
        "--greedy/--best",
        help="Grow a connected circuit from the logits, or take the best parts wherever they are.",
        default=None,
    )
    select: str | None = option(
        "--select",
        help="How --keep chooses: top, greedy, pnr:0.7 (a share by sign, the rest by size) or ilp (the best connected "
        "circuit of that size). Default: as the method does.",
        default=None,
    )
    options: Mapping[str, Any] = option(
        "--option",
        help="An option of the method, such as steps=10; may be repeated.",
        default=dict,
    )
    split: str = split_named("train")
    test_split: str = option(
        "--test-split", help="Split whose pairs the circuit is judged on.", default="test", place=PAIRS
    )
    random_draws: int = option(
        "--random",
        help="How many random circuits of each size stand beside it.",
        default=5,
        least=0,
        place=PAIRS,
    )

    exact_sample: int | None = option(
        "--exact-sample",
        help="How many edges to measure exactly as well, to see how good the scores are; 0 for none. Default: 40 where "
        "that takes under a tenth of the run.",
        default=None,
        least=0,
    )

    @classmethod
    def place(cls, folder: Path, *, resume: bool) -> dict[str, Path]:
        work = folder.parent if folder.name.startswith("shard-") else folder
        if (
            resume and load("workbench.engine.run_folders.past_runs:UNFINISHED") in work.name
        ):  # its circuit gets the folder that its digest names
            return {"root": work.parents[2]}
        return {"out": folder}

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.dry_run:
            return
        if self.shard is not None:
            yield f"wrote {result.folder}; when all shards are done: workbench runs merge {result.folder.parent}"
        else:
            yield (
                f"wrote {result.folder}: circuit.json, scores.safetensors, circuit.html, report.html, run.json"
            )
            yield f"a page with attention, effects and reasons: workbench circuit details {result.folder}"


@command(
    "demo",
    run="workbench.commands.discover:demo",
    check="workbench.commands.asked.inputs:check_asked",
    out="Default: circuits.",
    retired=("method",),
)
@dataclass(frozen=True, kw_only=True)
class Demo(OnModel):
    """Do the main job from start to end: ablate all heads on IOI, discover a circuit, judge it, save it, show it.

    Example: workbench demo
    """

    model: str = option("-m", "--model", help=MODEL, default="zoo:ioi", place=ABOUT)
    limit: int | None = limited()
    seed: int = seeded()

    @classmethod
    def place(cls, folder: Path, *, resume: bool) -> dict[str, Path]:
        return {"root": folder.parents[2] if resume else folder}
