"""Who measures the subjects of a bench: this process, or several of one thread each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from workbench.bench.cases import Subject, label_of
from workbench.bench.settings import Settings, parse_task
from workbench.bench.survey import Cell, Survey
from workbench.core.job import Note
from workbench.core.named_plugins import use_plugins_of_environment
from workbench.core.progress import Progress
from workbench.engine.threads import one_thread
from workbench.model.known_circuits import Truth, load_truth

Found = tuple[list[Cell], str]  # the cells of a subject, and why it was left out: empty if it was not
Job = tuple[Settings, Path, str, bool]  # the last two: the subject's label, and whether its circuit is known


def in_this_process(survey: Survey, subjects: Sequence[Subject]) -> list[Found]:
    """Measure every subject in this process with one thread.

    Returns:
        One entry per subject, in their order.
    """
    with one_thread():
        return [(list(survey.on(s)), survey.left_out.get(label_of(s), "")) for s in subjects]


def in_processes(
    settings: Settings,
    folder: Path,
    subjects: Sequence[Subject],
    workers: int,
    progress: Progress | None,
    note: Note,
) -> list[Found]:
    """Share the subjects among processes of one thread each.

    Returns:
        One entry per subject, in their order: what one process would find.
    """
    found: dict[str, Found] = {}
    jobs = [job_of(settings, folder, s) for s in subjects]
    with get_context("spawn").Pool(min(workers, len(jobs)), initializer=_end_with_parent) as pool:
        for label, of_subject, said in pool.imap_unordered(carry_out, jobs):
            found[label] = of_subject
            for text in said:
                note(text)
            if progress:
                progress(len(found), len(jobs), f"{label} done")
    return [found[label_of(s)] for s in subjects]


def job_of(settings: Settings, folder: Path, subject: Subject) -> Job:
    """Say in plain values what a process is to measure.

    Returns:
        What ``carry_out`` takes.
    """
    return settings, folder, label_of(subject), isinstance(subject, Truth)


def carry_out(job: Job) -> tuple[str, Found, list[str]]:
    """Measure one subject with one thread.

    Returns:
        Its label, its cells with the reason if it was left out, and what was said meanwhile.
    """
    use_plugins_of_environment()
    settings, folder, label, is_truth = job
    said: list[str] = []
    survey = Survey(settings, settings.variants(), folder, None, said.append, 1)
    with one_thread():
        cells = list(survey.on(load_truth(label) if is_truth else parse_task(label)))
    return label, (cells, survey.left_out.get(label, "")), said


def _end_with_parent() -> None:
    """A process whose parent was killed would go on measuring for nobody."""
    parent = parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
