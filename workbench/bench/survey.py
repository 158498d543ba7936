"""Every method on one subject after the other: a cell from the folder, or measured now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from workbench.bench.cases import Subject, digest_of_truth, noisy_runs, task_runs, warm_up
from workbench.bench.cells import Shelf, code_of
from workbench.bench.quantities import TaskRuns, gap_of, options_of, task_measures, truth_measures
from workbench.bench.settings import Level, Settings, TrainedTask, Variant
from workbench.circuits.scores import Scores
from workbench.core.errors import WorkbenchError
from workbench.core.job import Note
from workbench.core.progress import Progress
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.outcome import graph_of
from workbench.methods.registry import get_method
from workbench.model.known_circuits import Truth

Cell = dict[str, Any]
Measure = Callable[[], tuple[Cell, Scores]]
# the reference that others are compared with, measured on every trained task whether it is a row or not
EXACT = Variant(method="exact")


@dataclass
class Survey:
    """One run through all subjects; keeps count for the progress bar."""

    settings: Settings
    variants: tuple[Variant, ...]
    folder: Path
    progress: Progress | None
    note: Note
    n_subjects: int

    left_out: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.folder)
        per_subject = sum(len(self._levels(v)) for v in self.variants)
        self.total, self.done = self.n_subjects * per_subject, 0

    def on(self, subject: Subject) -> Iterator[Cell]:
        """Measure all cells of a subject.

        Returns:
            Its cells, one after the other; none for a task whose corrupted prompts do not change the metric.
        """
        return self._on_truth(subject) if isinstance(subject, Truth) else self._on_task(subject)

    def _on_truth(self, truth: Truth) -> Iterator[Cell]:
        """The cells of one model with a known circuit."""
        runs, noise = noisy_runs(truth, self.settings)
        warm_up(runs)
        seeds, repeat = self.settings.all_seeds, self.settings.repeat_passes
        for variant, level in self._cells():
            decided = self._decided("truth", runs, variant, level) | {
                "truth": digest_of_truth(truth),
                "noise": noise,
            }
            yield self._cell(
                decided,
                truth.model,
                runs,
                variant,
                level,
                partial(truth_measures, runs, truth, variant, level, seeds=seeds, repeat_passes=repeat),
                noise=noise,
            )

    def _on_task(self, task: TrainedTask) -> Iterator[Cell]:
        """The cells of one trained task, none if its corrupted prompts do not change the metric."""
        runs = task_runs(task, self.settings)
        gap = gap_of(runs.judged)
        if not gap["carries"]:
            self._leave_out(task.label, gap, runs.judged.metric.unit)
            return
        self.note(f"{task.label}: {runs.judged.behavior.sentence('its cells')}")
        warm_up(runs.found_on)
        exact = {level: self._exact(task, runs, level) for level in self.settings.levels}
        for variant, level in self._cells():
            decided = self._task_decided(runs, variant, level)
            yield self._cell(
                decided,
                task.label,
                runs.found_on,
                variant,
                level,
                partial(self._measure_task, runs, variant, level, exact[level]),
                gap=gap,
            )

    def _measure_task(
        self, runs: TaskRuns, variant: Variant, level: Level, exact: Scores | None
    ) -> tuple[Cell, Scores]:
        return task_measures(
            runs,
            variant,
            level,
            exact=exact,
            seeds=self.settings.all_seeds,
            repeat_passes=self.settings.repeat_passes,
        )

    def _exact(self, task: TrainedTask, runs: TaskRuns, level: Level) -> Scores | None:
        """Exact effects on the first draw of pairs, from the cell of ``exact``; None where they cannot be had."""
        decided = self._task_decided(runs, EXACT, level)
        if self.shelf.get(decided) is None:
            made = self._cell(
                decided,
                task.label,
                runs.found_on,
                EXACT,
                level,
                partial(self._measure_task, runs, EXACT, level, None),
                counted=False,
            )
            if made["status"] != "done":
                return None
        cell = self.shelf.get(decided)
        return self.shelf.scores(decided) if cell and cell["status"] == "done" else None

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
            "seeds": list(self.settings.all_seeds),
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
        measure: Measure,
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
        self, runs: PairedRuns, variant: Variant, level: Level, measure: Measure, what: str
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
