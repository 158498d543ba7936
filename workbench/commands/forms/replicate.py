"""The options of ``replicate``, and of ``reproduce``, the former word for a study that is re-run step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import (
    DOCS,
    MODEL,
    QUICK,
    SETTING,
    OnModel,
    batched,
    limited,
    seeded,
    split_named,
)
from workbench.core.command import ABOUT, JOB, OWN, PAIRS, argument, command, option
from workbench.core.registry import load

if TYPE_CHECKING:
    from workbench.core.job import Job


RETRAIN = "retrain=true"
BARS = ("bars", "edge-counts")  # answered without a model
MEASURED_BARS = ("eap-ig-curves", "mib", "acdc-auc")


@command(
    "replicate",
    run="workbench.commands.replicate:replicate",
    check="workbench.commands.asked.replicate:check_replication",
    offers=("out", "dry_run", "resume"),
)
@dataclass(frozen=True, kw_only=True)
class Replicate(OnModel):
    """Measure a paper's claims again: its numbers beside yours, controls, a verdict per claim.

    A paper whose circuit is published (ioi, greater-than) is re-run step by step. eap-ig-curves, mib, acdc-auc and
    edge-counts print published numbers beside yours, with tolerance and verdict; bars lists them all.

    Example: workbench replicate retrieval-heads -m zoo:kv
    """

    replication: str = argument(
        "{papers}, or a study; 'list' says more, 'all' runs them all.", metavar="NAME"
    )
    model: str | None = option(
        "-m",
        "--model",
        help=f"{MODEL} Default: the replication's own.",
        default=None,
        env="WORKBENCH_MODEL",
        place=ABOUT,
    )
    options: tuple[str, ...] = option(
        "--set",
        help=f"{SETTING} Sizes and thresholds; --dry-run shows them.",
        default=(),
    )
    seed: int = seeded(OWN)
    retrain: bool = option(
        "--retrain",
        help="Train the paper's models anew, in place of those that come with the workbench; --set retrain=true.",
        default=False,
        recorded=False,
    )
    quick: bool = option(
        "--quick",
        help=f"{QUICK} Only with all; verdicts are marked as quick.",
        default=False,
        recorded=False,
    )
    docs: Path | None = option(
        "--docs",
        help=f"{DOCS} Only with all; with list the page of papers is written.",
        default=None,
        place=JOB,
        recorded=False,
    )

    data: Path | None = option(
        "--data",
        help="With eap-ig-curves, mib and acdc-auc: the folder with the prompts of the source.",
        default=None,
        place=ABOUT,
    )
    results: Path | None = option(
        "--results",
        help="With list: a folder of replicate all; minutes and verdicts of the list are taken from it and kept.",
        default=None,
        place=JOB,
        recorded=False,
    )

    def __post_init__(self) -> None:
        if self.retrain and RETRAIN not in self.options:
            object.__setattr__(self, "options", (*self.options, RETRAIN))

    def answer(self) -> Any:
        if self.replication in BARS:
            return load("workbench.commands.asked.bars:known_bars")(self)
        if self.replication != "list":
            return None
        if self.results is not None:
            load("workbench.papers.listing:keep_results")(self.results)
        if self.docs is not None:
            load("workbench.papers.listing:write_page")(self.docs)
        return load("workbench.commands.asked.replicate:rows_of_all")()

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if self.replication in BARS or self.replication in MEASURED_BARS:
            return
        if self.replication == "list" or job.dry_run:
            yield from [f"wrote {self.docs}"] if self.docs is not None else []
            return
        if self.replication == "all":
            files = "all.html, all.json"
        else:
            files = load("workbench.commands.asked.replicate:files_of")(self.replication)
        yield f"wrote {result.folder}: {files}"

    def exit_code(self, result: Any) -> int:
        if self.replication in MEASURED_BARS:
            return 3 if getattr(result, "outside", 0) else 0
        return 1 if self.replication == "all" and result.failed else 0


@command(
    "reproduce",
    run="workbench.commands.reproduce:reproduce",
    check="workbench.commands.asked.replicate:check_reproduction",
    offers=("out", "dry_run", "resume"),
    resumes=True,
    retired=("task", "corruption"),
    hidden=True,
)
@dataclass(frozen=True, kw_only=True)
class Reproduce(OnModel):
    """Re-run a published study on a model: its steps in order, its numbers beside yours, a verdict per claim.

    The former word for replicate of a study.

    Example: workbench reproduce ioi -m gpt2
    """

    study: str = argument("ioi; 'list' says which studies there are.")
    model: str | None = option("-m", "--model", help=MODEL, default=None, env="WORKBENCH_MODEL", place=ABOUT)
    limit: int | None = limited()
    split: str = split_named()
    seed: int = seeded()
    n_reference: int = option(
        "--reference-pairs",
        help="How many prompts the means are taken over, the measured ones included.",
        default=256,
        least=1,
        place=PAIRS,
    )
    batch_tokens: int = batched()

    def answer(self) -> Any:
        if self.study == "list":
            return load("workbench.papers.studies.registry:study_rows")()
        return None

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if self.study != "list" and not job.dry_run:
            yield (
                f"wrote {result.folder}: run.json, study.json, report.html, tables, circuit.json if there is one"
            )
