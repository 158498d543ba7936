"""The bench of discovery methods: every method on every known circuit and on every trained task, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from workbench.bench.assembly import document_of
from workbench.bench.cases import Subject, label_of
from workbench.bench.markdown import write_docs
from workbench.bench.processes import Found, carry_out, in_processes, in_this_process, job_of
from workbench.bench.settings import Settings, Variant
from workbench.bench.spread import bench_plan, fetch_cells
from workbench.bench.survey import Cell, Survey
from workbench.bench.table import FILE, PAGE, BenchResult
from workbench.core.job import Job, Note
from workbench.core.progress import Progress
from workbench.core.run_record import RunRecord, digest_of
from workbench.engine.cluster.spread import Spread
from workbench.engine.distribute import Here, Serving, ShardFinished
from workbench.engine.saved_effects import SavedShard, save_shard, share_of_record
from workbench.engine.store import PLAN, SweepStore, drop_parts
from workbench.model.known_circuits import Truth, list_truths, load_truth


def bench_discovery(
    settings: Settings,
    folder: Path,
    *,
    workers: int | None = 1,
    shard: str | None = None,
    ray: str | None = None,
    serving: Serving | None = None,
    docs: Path | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> BenchResult | SavedShard:
    """Measure every cell that is not in the folder yet, and put all of them together.

    Torch uses one thread meanwhile, so that seconds compare. A method that refuses a model, or fails, is a cell
    with the reason; failed ones are tried again at the next start, refusals are final.

    Args:
        workers: Processes of one thread each; what they find is the same, CPU seconds are of the one that measures.
        shard, ray: Measure a share of the subjects only, or all on a Ray cluster, see ``Spread``.
        docs: A page that gets the tables between its marks.

    Returns:
        Every cell with what decided it; of a shard, the share that was measured.

    Raises:
        WorkbenchError: for names that do not exist, before anything is measured.
        RunError: if another process is writing to the folder.

    Example:
        >>> import workbench as wb
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> settings = wb.BenchSettings(methods=("random",), truths=("zoo:truth-induction",), tasks=(), n_truth=4)
        >>> len(wb.bench_discovery(settings, Path(mkdtemp())).document["truth"])
        2
    """
    variants, tasks = settings.variants(), settings.parsed_tasks()
    truths = [load_truth(name) for name in (list_truths() if settings.truths is None else settings.truths)]
    # tasks first: they take longest, so that no process is left with one of them at the end
    subjects: list[Subject] = [*tasks, *truths]
    spread = Spread(shard=shard, ray=ray, workers=workers if ray else None, serving=serving)
    folder = Path(folder)
    if spread.share is not None and folder.name != spread.share.name:
        folder = folder / spread.share.name
    record = RunRecord(command="bench discovery", arguments={**settings.to_dict(), **spread.to_dict()})
    if serving is not None:
        _fetch(settings, subjects, folder, serving.asked(digest_of(bench_plan(settings)), None), None)

    def compute(folder: Path) -> BenchResult | SavedShard:
        if shard is not None or ray is not None or (folder / PLAN).exists():
            share = _spread_out(settings, subjects, folder, spread, record, progress, note)
            if share is not None:
                return share
        if not ray and workers is not None and workers > 1:
            found = in_processes(settings, folder, subjects, workers, progress, note)
        else:
            found = in_this_process(
                Survey(settings, variants, folder, progress, note, len(subjects)), subjects
            )
        return _result(settings, variants, truths, list(zip(subjects, found, strict=True)))

    result = Job(note=note).keep(folder, record, compute, _save)
    if docs is not None and isinstance(result, BenchResult):
        write_docs(result, docs)
    return result


def _result(
    settings: Settings,
    variants: tuple[Variant, ...],
    truths: Sequence[Truth],
    found: Sequence[tuple[Subject, Found]],
) -> BenchResult:
    """All cells together: those on known circuits, those on tasks, and the subjects that were left out."""
    cells: dict[str, list[Cell]] = {"truth": [], "tasks": []}
    for subject, (own, _) in found:
        cells["truth" if isinstance(subject, Truth) else "tasks"] += own
    left_out = [{"subject": label_of(subject), "reason": why} for subject, (_, why) in found if why]
    return BenchResult(document=document_of(settings, variants, truths, cells, left_out))


def _save(result: BenchResult | SavedShard, folder: Path) -> dict[str, str]:
    """Write the table and the page, and drop the parts they were made of; of a share, which parts there are."""
    if isinstance(result, SavedShard):
        return save_shard(result)
    result.save(folder)
    drop_parts(folder)
    return {"result": FILE, "page": PAGE, "cells": "cells"}


def _spread_out(
    settings: Settings,
    subjects: Sequence[Subject],
    folder: Path,
    spread: Spread,
    record: RunRecord,
    progress: Progress | None,
    note: Note,
) -> SavedShard | None:
    """Have the cells measured in shards or by workers, and put them on the shelf; the share, if this is one."""
    plan = bench_plan(settings)
    program = partial(bench_discovery, settings, folder)
    with (
        spread.division(program, device="cpu", note=note) as division,
        SweepStore(folder, plan, resume=True) as store,
    ):
        try:
            _fetch(settings, subjects, folder, division.asked(digest_of(plan), store), progress)
        except ShardFinished as finished:
            record.question = digest_of(plan)
            return SavedShard(shard=share_of_record(finished, record), folder=folder)
    return None


def _fetch(
    settings: Settings,
    subjects: Sequence[Subject],
    folder: Path,
    division: Here,
    progress: Progress | None,
) -> None:
    def measure(n: int, place: Path) -> None:
        carry_out(job_of(settings, place, subjects[n]))

    fetch_cells([label_of(s) for s in subjects], measure, folder, division, progress)
