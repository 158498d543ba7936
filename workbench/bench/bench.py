"""The bench of discovery methods: every method on every known circuit and on every trained task, cell by cell."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from workbench.bench.cells import Shelf, code_of
from workbench.bench.markdown import write_docs
from workbench.bench.quantities import TaskRuns, gap_of, options_of, task_measures, truth_measures
from workbench.bench.settings import Level, Settings, TrainedTask, Variant, parse_task
from workbench.bench.spread import bench_plan, fetch_cells
from workbench.bench.table import FILE, PAGE, BenchResult
from workbench.circuits.scores import Scores
from workbench.core.errors import WorkbenchError
from workbench.core.job import Job, Note
from workbench.core.plugins import use_plugins_of_environment
from workbench.core.progress import Progress
from workbench.core.run_record import RunRecord, code_versions, digest_of
from workbench.engine.cluster.spread import Spread
from workbench.engine.distribute import Here, Serving, ShardFinished
from workbench.engine.metrics import metric_from_file
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.saved_effects import SavedShard, save_shard, share_of_record
from workbench.engine.store import PLAN, SweepStore, drop_parts
from workbench.methods.by_name import score
from workbench.methods.outcome import graph_of
from workbench.methods.registry import get_method
from workbench.model.known_circuits import Truth, add_noise, list_truths, load_truth
from workbench.model.open import open_model

Cell = dict[str, Any]
# the reference that others are compared with, measured on every trained task whether it is a row or not
EXACT = Variant(method="exact")


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
    subjects: list[TrainedTask | Truth] = [*tasks, *truths]
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
        if not ray and (workers or 1) > 1:
            found = _in_processes(settings, folder, subjects, workers, progress, note)
        else:
            found = _here(_Bench(settings, variants, folder, progress, note, len(subjects)), subjects)
        return _result(settings, variants, truths, list(zip(subjects, found, strict=True)))

    result = Job(note=note).keep(folder, record, compute, _save)
    if docs is not None and isinstance(result, BenchResult):
        write_docs(result, docs)
    return result


Found = tuple[list[Cell], str]  # the cells of a subject, and why it was left out: empty if it was not


def _here(bench: _Bench, subjects: list[TrainedTask | Truth]) -> list[Found]:
    """Measure every subject in this process with one thread."""
    with _one_thread():
        return [(list(bench.on(s)), bench.left_out.get(_label(s), "")) for s in subjects]


def _result(
    settings: Settings,
    variants: tuple[Variant, ...],
    truths: list[Truth],
    found: list[tuple[TrainedTask | Truth, Found]],
) -> BenchResult:
    """All cells together: those on known circuits, those on tasks, and the subjects that were left out."""
    cells: dict[str, list[Cell]] = {"truth": [], "tasks": []}
    for subject, (own, _) in found:
        cells["truth" if isinstance(subject, Truth) else "tasks"] += own
    left_out = [{"subject": _label(subject), "reason": why} for subject, (_, why) in found if why]
    return BenchResult(document=_document(settings, variants, truths, cells, left_out))


def _save(result: BenchResult | SavedShard, folder: Path) -> dict[str, str]:
    """Write the table and the page, and drop the parts they were made of; of a share, which parts there are."""
    if isinstance(result, SavedShard):
        return save_shard(result)
    result.save(folder)
    drop_parts(folder)
    return {"result": FILE, "page": PAGE, "cells": "cells"}


def _spread_out(
    settings: Settings,
    subjects: list[TrainedTask | Truth],
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
    subjects: list[TrainedTask | Truth],
    folder: Path,
    division: Here,
    progress: Progress | None,
) -> None:
    def measure(n: int, place: Path) -> None:
        _in_process((settings, place, _label(subjects[n]), isinstance(subjects[n], Truth)))

    fetch_cells([_label(s) for s in subjects], measure, folder, division, progress)


def _label(subject: TrainedTask | Truth) -> str:
    return subject.model if isinstance(subject, Truth) else subject.label


def _in_processes(
    settings: Settings,
    folder: Path,
    subjects: list[TrainedTask | Truth],
    workers: int,
    progress: Progress | None,
    note: Note,
) -> list[tuple[list[Cell], str | None]]:
    """The subjects shared among processes of one thread each; what they find is what one process would."""
    found: dict[str, tuple[list[Cell], str | None]] = {}
    jobs = [(settings, folder, _label(s), isinstance(s, Truth)) for s in subjects]
    with get_context("spawn").Pool(min(workers, len(jobs)), initializer=_end_with_parent) as pool:
        for label, cells, why, said in pool.imap_unordered(_in_process, jobs):
            found[label] = (cells, why)
            for text in said:
                note(text)
            if progress:
                progress(len(found), len(jobs), f"{label} done")
    return [found[_label(s)] for s in subjects]


def _end_with_parent() -> None:
    """A process whose parent was killed would go on measuring for nobody."""
    sentinel = parent_process().sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _in_process(job: tuple[Settings, Path, str, bool]) -> tuple[str, list[Cell], str | None, list[str]]:
    use_plugins_of_environment()
    settings, folder, label, is_truth = job
    said: list[str] = []
    bench = _Bench(settings, settings.variants(), folder, None, said.append, 1)
    with _one_thread():
        cells = list(bench.on(load_truth(label) if is_truth else parse_task(label)))
    return label, cells, bench.left_out.get(label), said


def noisy_runs(truth: Truth, settings: Settings) -> tuple[PairedRuns, float]:
    """Runs of a known circuit whose weights have as much noise as leaves its clean and corrupted metric alone.

    The noise is halved from ``settings.noise`` until neither mean moves by more than 5 % of their difference; the
    noise that is left is returned too. Labels hold because the program still does the task.
    """
    pairs = truth.pairs(settings.n_truth, seed=settings.seed)
    true = PairedRuns(open_model(truth.model), pairs, metric=metric_from_file(truth.metric))
    gap, noise = float((true.clean - true.corrupted).mean()), settings.noise
    while noise > 1e-6:
        model = open_model(truth.model)
        add_noise(model, noise, seed=settings.seed)
        runs = PairedRuns(model, true.pairs, metric=metric_from_file(truth.metric))
        moved = max(abs((runs.clean - true.clean).mean()), abs((runs.corrupted - true.corrupted).mean()))
        if moved <= 0.05 * abs(gap):
            return runs, noise
        noise /= 2
    return true, 0.0


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Bench:
    """One run through all subjects; keeps count for the progress bar."""

    settings: Settings
    variants: tuple[Variant, ...]
    folder: Path
    progress: Progress | None
    note: Note
    n_subjects: int

    def __post_init__(self) -> None:
        self.shelf, self.left_out = Shelf(self.folder), {}
        per_subject = sum(len(self._levels(v)) for v in self.variants)
        self.total, self.done = self.n_subjects * per_subject, 0

    def on(self, subject: TrainedTask | Truth) -> Iterator[Cell]:
        """The cells of one model with a known circuit, or of one trained task."""
        return self.on_truth(subject) if isinstance(subject, Truth) else self.on_task(subject)

    def on_truth(self, truth: Truth) -> Iterator[Cell]:
        """The cells of one model with a known circuit."""
        runs, noise = noisy_runs(truth, self.settings)
        _warm_up(runs)
        seeds, repeat = self._seeds(), self.settings.repeat_passes
        for variant, level in self._cells():
            decided = self._decided("truth", runs, variant, level) | {
                "truth": _digest(truth),
                "noise": noise,
            }
            yield self._cell(
                decided,
                truth.model,
                runs,
                variant,
                level,
                lambda v=variant, x=level: truth_measures(
                    runs, truth, v, x, seeds=seeds, repeat_passes=repeat
                ),
                noise=noise,
            )

    def on_task(self, task: TrainedTask) -> Iterator[Cell]:
        """The cells of one trained task, none if its corrupted prompts do not change the metric."""
        runs = self._task_runs(task)
        gap = gap_of(runs.judged)
        if not gap["carries"]:
            self._leave_out(task.label, gap, runs.judged.metric.unit)
            return
        self.note(f"{task.label}: {runs.judged.behavior.sentence('its cells')}")
        _warm_up(runs.found_on)
        exact = {level: self._exact(task, runs, level) for level in self.settings.levels}
        for variant, level in self._cells():
            decided = self._task_decided(runs, variant, level)
            yield self._cell(
                decided,
                task.label,
                runs.found_on,
                variant,
                level,
                lambda v=variant, x=level: self._measure_task(runs, v, x, exact[x]),
                gap=gap,
            )

    def _measure_task(self, runs: TaskRuns, variant: Variant, level: Level, exact: Scores | None):
        return task_measures(
            runs,
            variant,
            level,
            exact=exact,
            seeds=self._seeds(),
            repeat_passes=self.settings.repeat_passes,
        )

    def _exact(self, task: TrainedTask, runs: TaskRuns, level: Level) -> Scores | None:
        """Exact effects on the first draw of pairs, from the cell of ``exact``; None where they cannot be had."""
        decided = self._task_decided(runs, EXACT, level)
        if self.shelf.get(decided) is None:
            cell = self._cell(
                decided,
                task.label,
                runs.found_on,
                EXACT,
                level,
                lambda: self._measure_task(runs, EXACT, level, None),
                counted=False,
            )
            if cell["status"] != "done":
                return None
        cell = self.shelf.get(decided)
        return self.shelf.scores(decided) if cell and cell["status"] == "done" else None

    def _task_runs(self, task: TrainedTask) -> TaskRuns:
        model, s = open_model(task.model), self.settings

        def draw(split: str, seed: int) -> PairedRuns:
            return paired_runs(
                model, task.task, n=s.n_task, seed=seed, split=split, corruption=task.corruption
            )

        found = tuple(draw("train", seed) for seed in self._seeds())
        return TaskRuns(draws=found, judged=draw("test", s.seed))

    # -- cells ----------------------------------------------------------------------------------------------

    def _seeds(self) -> tuple[int, ...]:
        return tuple(self.settings.seed + k for k in range(self.settings.seeds))

    def _levels(self, variant: Variant) -> list[Level]:
        return [level for level in self.settings.levels if level in get_method(variant.method).levels]

    def _cells(self) -> Iterator[tuple[Variant, Level]]:
        for variant in self.variants:
            for level in self._levels(variant):
                yield variant, level

    def _decided(self, kind: str, runs: PairedRuns, variant: Variant, level: Level) -> dict[str, Any]:
        """All that decides a cell; equal questions have one cell."""
        known = runs.provenance()
        names = ("model", "weights", "config", "dtype", "device", "tokens", "metric", "metric_source")
        return {
            "kind": kind,
            **{name: known[name] for name in (*names, "standing") if name in known},
            "method": variant.method,
            "options": options_of(variant),
            "level": level,
            "seeds": list(self._seeds()),
            "most_passes": self.settings.most_passes,
            "repeat_passes": self.settings.repeat_passes,
            "code": code_of(get_method(variant.method), kind),
        }

    def _task_decided(self, runs: TaskRuns, variant: Variant, level: Level) -> dict[str, Any]:
        return self._decided("task", runs.found_on, variant, level) | {
            "draws": [r.tokens_digest for r in runs.draws],
            "judged": runs.judged.tokens_digest,
        }

    def _cell(
        self,
        decided: Mapping[str, Any],
        subject: str,
        runs: PairedRuns,
        variant: Variant,
        level: Level,
        measure: Callable[[], tuple[Cell, Scores]],
        *,
        counted: bool = True,
        **fields: Any,
    ) -> Cell:
        """A cell from the folder, or measured now."""
        what = f"{subject}: {variant.label}, {level}s"
        cell = self.shelf.get(decided)
        if cell is None:
            if self.progress:
                self.progress(self.done, self.total, what)
            head = {"subject": subject, "method": variant.label, "level": level, **fields}
            body, scores = self._attempt(runs, variant, level, measure, what)
            cell = {**head, **body}
            if cell["status"] != "failed":
                self.shelf.put(decided, cell, scores)
        self.done += counted
        return cell

    def _attempt(
        self, runs: PairedRuns, variant: Variant, level: Level, measure, what: str
    ) -> tuple[Cell, Scores | None]:
        """Measure, or say why not: no method may end the bench for the others."""
        try:
            too_many = self._too_many(runs, variant, level)
            if too_many:
                return {"status": "left out", "reason": too_many}, None
            body, scores = measure()
        except WorkbenchError as refusal:
            return {"status": "refused", "reason": refusal.message}, None
        except (
            Exception
        ) as problem:  # a bug of one method; said in the table, and tried again at the next start
            reason = f"{type(problem).__name__}: {problem}"
            self.note(f"{what} failed: {reason}")
            return {"status": "failed", "reason": reason[:500]}, None
        return {"status": "done", **body}, scores

    def _too_many(self, runs: PairedRuns, variant: Variant, level: Level) -> str:
        """Why a method is too slow for this bench; empty if it is not."""
        most = self.settings.most_passes
        if most is None:
            return ""
        method = get_method(variant.method)
        cost = method.cost(method.make_options(**variant.options), graph_of(runs, level), level)
        return f"{cost.passes} passes per batch are more than {most}" if cost.passes > most else ""

    def _leave_out(self, subject: str, gap: Mapping[str, Any], unit: str) -> None:
        reason = (
            f"the corrupted prompts hardly change the metric ({gap['clean']:.3f} clean, {gap['corrupted']:.3f} "
            f"corrupted, {unit}; difference {gap['gap']:.3f} ± {gap['stderr']:.3f}): faithfulness is not defined"
        )
        self.left_out[subject] = reason
        self.note(f"{subject} is left out: {reason}")
        self.done += sum(len(self._levels(v)) for v in self.variants)


def _warm_up(runs: PairedRuns) -> None:
    """One forward and backward pass, so that the first method does not pay for what is made once."""
    try:
        score(runs.subset([0, 1]), "eap", level="edge")
    except WorkbenchError:  # a model without edges: its methods say so themselves
        _ = runs.clean


def _digest(truth: Truth) -> str:
    return digest_of([list(truth.circuit.edges), list(truth.supporting)])


def _document(
    settings: Settings,
    variants: tuple[Variant, ...],
    truths: list[Truth],
    cells: dict[str, list[Cell]],
    left_out: list[dict[str, str]],
) -> dict[str, Any]:
    """Everything measured, as one JSON value."""
    rows = []
    for variant in variants:
        method = get_method(variant.method)
        rows.append(
            {
                "method": variant.label,
                "levels": list(method.levels),
                "claim": method.claim,
                "source": method.source,
                "options": options_of(variant),
                "ranking": "signed" if method.signed else "absolute",
                "selection": method.selection,
            }
        )
    known = [
        {
            "model": t.model,
            "algorithm": t.algorithm,
            "norm": t.norm,
            "sharpness": t.sharpness,
            "about": t.about,
        }
        for t in truths
    ]
    return json.loads(
        json.dumps(
            {
                "settings": settings.to_dict(),
                "code": code_versions(),
                "machine": f"{platform.machine()}, 1 thread",
                "methods": rows,
                "known": known,
                **cells,
                "left_out": left_out,
            },
            allow_nan=False,
        )
    )
