"""A study that is re-run: open, plan, run or resume step by step, save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.commands.asked.replicate import model_of
from workbench.commands.forms.replicate import Reproduce
from workbench.commands.inputs import open_runs, record_of
from workbench.commands.plans.inputs import planned_runs
from workbench.core.job import Job
from workbench.core.run_record import digest_of
from workbench.core.text import folder_name
from workbench.engine.told import tell_behavior
from workbench.papers.studies.carried_out import (
    ReproductionCost,
    finished_steps,
    reference_runs,
    run_study,
    save_reproduction,
    study_cost,
    study_plan,
)
from workbench.papers.studies.kinds import StepResult
from workbench.papers.studies.registry import find_study
from workbench.papers.studies.result import Reproduction

ROOT = Path("runs") / "reproduce"


def reproduce(asked: Reproduce, job: Job) -> Reproduction | ReproductionCost:
    """Re-run a study on a model and save what it found.

    Raises:
        OptionError: if there is no such study.
        RunError: if the folder holds another run, or an unfinished one without ``resume``.
    """
    chosen, note = find_study(asked.study), job.note
    opening = {
        **{name: getattr(asked, name) for name in ("model", "limit", "split", "seed", "batch_tokens")},
        **{"task": chosen.task, "corruption": chosen.corruption, **asked.opening()},
    }
    if job.dry_run:
        return study_cost(chosen, planned_runs(note=note, **opening), job.out)
    runs = open_runs(note=note, **opening)
    reference = reference_runs(runs, chosen, asked.seed, asked.n_reference)
    plan = study_plan(chosen, runs, reference, asked.seed)
    record = record_of(asked, runs)
    record.question = digest_of(plan)
    done: dict[str, StepResult] = {}

    def compute(folder: Path) -> Reproduction:
        record.behaviors = tell_behavior(runs, note, what="what the study finds")
        how: dict[str, Any] = {"folder": folder, "done": done, "progress": job.progress, "note": note}
        return run_study(chosen, runs, reference, seed=asked.seed, **how)

    folder = job.out or ROOT / chosen.name / f"{folder_name(model_of(asked))}-{digest_of(plan)[:8]}"
    return job.keep(
        folder,
        record,
        compute,
        save_reproduction,
        begin=lambda at: done.update(finished_steps(at, plan, job.resume, note)),
    )
