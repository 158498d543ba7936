"""The options of ``bench discovery``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import DOCS, LIMIT, QUICK, Spreadable, seeded
from workbench.core.command import JOB, OWN, SPREAD, command, option
from workbench.core.registry import load

if TYPE_CHECKING:
    from workbench.bench.settings import Settings
    from workbench.core.job import Job

FOLDER = Path("circuits/bench-discovery")


@command(
    "bench discovery",
    run="workbench.bench.bench:bench_discovery",
    out=f"Default: {FOLDER}. Finished cells in it are kept, so a killed bench goes on.",
    resumes=True,
)
@dataclass(frozen=True, kw_only=True)
class Bench(Spreadable):
    """Judge every method on models with known circuits, and on trained tasks: one table, one JSON, one page.

    Example: workbench bench discovery --quick -o circuits/bench-quick
    """

    methods: tuple[str, ...] = option(
        "--methods",
        help="Comma-separated, with options, all,eap-ig:steps=20: {methods}. Default: all.",
        default=(),
        commas=True,
        nothing="all",
    )
    truths: tuple[str, ...] | None = option(
        "--truth",
        help="Models with known circuits, comma-separated, or none. Default: all.",
        default=None,
        commas=True,
    )
    tasks: tuple[str, ...] | None = option(
        "--tasks",
        help="Trained tasks MODEL/TASK, comma-separated, or none: zoo:ioi/ioi,zoo:kv/kv-retrieval.",
        default=None,
        commas=True,
    )
    levels: tuple[str, ...] = option(
        "--levels", help="edge, node, or both.", default=("edge", "node"), commas=True
    )
    quick: bool = option(
        "--quick",
        help=f"{QUICK} Here two tasks, few pairs and one seed, in about two minutes.",
        default=False,
        recorded=False,
    )
    seeds: int | None = option(
        "--seeds", help="Draws of pairs, each with a seed of its own. [3]", default=None, least=1
    )
    pairs: int | None = option(
        "-n",
        "--limit",
        help=f"{LIMIT} Per model and task. [24, 32]",
        default=None,
        least=2,
        recorded=False,
    )
    noise: float | None = option(
        "--noise",
        help="Largest noise added to the weights of known circuits; with it no edge does exactly nothing. [0.01]",
        default=None,
        least=0,
    )
    n_truth: int | None = option(
        "--truth-pairs", help="Pairs of each known circuit.", default=None, least=2, hidden=True
    )
    n_task: int | None = option(
        "--task-pairs", help="Pairs of each trained task.", default=None, least=2, hidden=True
    )
    repeat_passes: int | None = option(
        "--repeat-passes", help="Most passes of a method that is scored again.", default=None, hidden=True
    )
    most_passes: int | None = option(
        "--most-passes", help="Most passes of a method that is scored.", default=None, hidden=True
    )
    seed: int = seeded(OWN)
    workers: int | None = option(
        "--workers",
        help="How many processes compute. Default: 2 where there are 2 cores.",
        default=None,
        least=1,
        place=SPREAD,
    )
    docs: Path | None = option("--docs", help=DOCS, default=None, place=JOB, recorded=False)

    def settings(self) -> Settings:
        """Return everything that decides the bench.

        Raises:
            OptionError: for names that do not exist.
        """
        names = ("methods", "truths", "tasks", "levels", "quick", "seeds", "pairs", "noise", "seed")
        sizes = ("n_truth", "n_task", "repeat_passes", "most_passes")
        asked = {name: getattr(self, name) for name in (*names, *sizes)}
        return load("workbench.bench.settings:settings_of")(**asked)

    def check(self, job: Job) -> None:
        self.settings()

    def run(self, job: Job) -> Any:
        workers = self.workers or (None if self.ray else min(2, os.cpu_count() or 1))
        return load(self.declared.run)(
            self.settings(),
            job.out or FOLDER,
            **{**self.spreading(), "workers": workers},
            docs=self.docs,
            serving=job.serving,
            progress=job.progress,
            note=job.note,
        )

    def said(self, result: Any, job: Job) -> Iterator[str]:
        out = job.out or FOLDER
        if self.shard is not None:
            yield f"wrote {result.folder}; when all shards are done: workbench runs merge {out}"
        else:
            tables = f"; tables in {self.docs}" if self.docs else ""
            yield f"wrote {out}: bench.json, bench.html, run.json, cells/{tables}"
