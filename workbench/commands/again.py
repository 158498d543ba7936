"""A run once more, from its record alone: continued where it stopped, or repeated into another folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.core.bounds import exists
from workbench.core.errors import RunError
from workbench.core.plugins import what_changed
from workbench.core.progress import Progress
from workbench.core.run_record import RunRecord, git_state, versions
from workbench.engine.run_folders.arguments import check_arguments
from workbench.engine.run_folders.consent import Consent
from workbench.engine.run_folders.folders import UNFINISHED, PastRun, look_at

Note = Callable[[str], None]
_SWEEPS = {
    "ablate": "ablation_job",
    "patch": "patching_job",
    "knock-out": "knock_out_job",
    "path-patch": "path_patching_job",
}
RESUMABLE = (
    *_SWEEPS,
    "discover",
    "reproduce",
    "bench discovery",
)  # the others keep no finished parts: they start over


def resume(
    folder: str | Path,
    *,
    consent: Consent | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Any | None:
    """Continue the run in a folder; None if it is finished.

    Args:
        consent: Which code that the record names may run; by default none.

    Raises:
        RunError: if it is running, has no record, names code that nobody consented to, or was written by a
            version that asked differently.
    """
    found = look_at(folder)
    if found.state == "finished":
        note(f"{folder} is finished; nothing to resume")
        return None
    if found.state == "running":
        raise RunError(f"process {found.holder or 'unknown'} is writing {folder}", hint="wait for it")
    record = _record(found)
    if record.command not in RESUMABLE:
        note(f"{record.command} keeps no finished parts: it starts over in {folder}")
    _say_what_changed(record, note)
    return call(record, Path(folder), resume=True, consent=consent, progress=progress, note=note)


def rerun(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    consent: Consent | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> tuple[Path, Any]:
    """Repeat the run of a folder into another one, which must be new or empty; gives that folder and the result.

    Args:
        out: By default the folder's name with ``-again``.
        consent: Which code that the record names may run; by default none.

    Raises:
        RunError: if there is no record, it names code that nobody consented to, or the other folder has something
            in it.
    """
    record = _record(look_at(folder))
    to = _beside(Path(folder)) if out is None else Path(out)
    if exists(to) and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to} is not empty; a rerun overwrites nothing", hint="choose another --out")
    _say_what_changed(record, note)
    return to, call(record, to, resume=False, consent=consent, progress=progress, note=note)


def _record(found: PastRun) -> RunRecord:
    if found.record is None:
        problem = found.error or "has no run.json, which says what was asked"
        raise RunError(
            f"{found.folder} {problem}" if not found.error else problem,
            hint=found.hint or "start its command again; sweeps take --resume --out FOLDER",
        )
    if found.state == "changed":  # it may name anything: only what was written as one run is run again
        raise RunError(found.error, hint=found.hint)
    return found.record


def _beside(folder: Path) -> Path:
    """``FOLDER-again``, ``FOLDER-again-2`` ...: the first that is not there."""
    n, path = 1, folder.with_name(f"{folder.name}-again")
    while path.exists():
        n, path = n + 1, folder.with_name(f"{folder.name}-again-{n + 1}")
    return path


def _say_what_changed(record: RunRecord, note: Note) -> None:
    """Versions and code that are not those of the record: numbers may move for that reason alone."""
    for name, now in versions().items():
        before = record.versions.get(name)
        if before not in (None, now):
            note(f"{name} was {before}, now {now}")
    for said in what_changed(record.plugins):
        note(said)
    before, now = record.git.get("commit"), git_state().get("commit")
    if before and now and before != now:
        note(f"the code was at {before[:12]}, now {now[:12]}")


def call(
    record: RunRecord,
    folder: Path,
    *,
    resume: bool,
    consent: Consent | None = None,
    progress: Progress | None,
    note: Note,
) -> Any:
    """Call the job of a record's command with the recorded arguments.

    Raises:
        RunError: for a command that is not known here, arguments that its job does not take, or code that nobody
            consented to.
    """
    given = dict(record.arguments)
    (consent or Consent()).check(given, record.plugins)
    check_arguments(given, f"the record of {folder}")
    common = {"progress": progress, "note": note}
    try:
        if record.command in _SWEEPS:
            from workbench.commands import sweeps as jobs

            if given.get("reference"):
                given["reference"] = Path(given["reference"])
            return getattr(jobs, _SWEEPS[record.command])(**given, out=folder, resume=resume, **common)
        if record.command == "discover":
            from workbench.commands.asked.search import Search
            from workbench.commands.discover import discovery_job

            how = {name: given.pop(name, None) for name in ("shard", "ray", "workers")}
            place: dict[str, Path] = {"out": folder}
            if resume and UNFINISHED in (folder.parent if how["shard"] else folder).name:
                place = {"root": (folder.parent if how["shard"] else folder).parents[2]}
            return discovery_job(Search(**given), **place, **how, resume=resume, **common)
        if record.command == "evaluate":
            from workbench.commands.asked.evaluation import Question
            from workbench.commands.evaluate import evaluation_job, judging_job, plan_of

            how = {name: given.pop(name) for name in ("edges", "bootstraps", "refits") if name in given}
            full = given.pop("full", False)
            known = {name: given.pop(name) for name in Question.__dataclass_fields__ if name in given}
            asked = Question(**{**known, "circuit": Path(known["circuit"])})
            place = {"out": folder.parent if resume else folder, **given, **common}
            if full:
                return judging_job(asked, plan=plan_of(asked, **how), **place)
            return evaluation_job(asked, **place)
        if record.command == "demo":
            from workbench.commands.discover import demo_job

            given.pop("method", None)
            return demo_job(**given, root=folder.parents[2] if resume else folder, **common)
        if record.command == "reproduce":
            from workbench.commands.reproduce import reproduce_job

            given = {k: v for k, v in given.items() if k not in ("task", "corruption")}
            return reproduce_job(given.pop("study"), **given, out=folder, resume=resume, **common)
        if record.command == "replicate":
            from workbench.commands.replicate import replicate_job

            return replicate_job(given.pop("replication"), **given, out=folder, **common)
        if record.command == "heads":
            from workbench.commands.heads import heads_job

            return heads_job(**given, out=folder, **common)
        if record.command == "edit measure":
            from workbench.commands.edit import measure_job

            return measure_job(given.pop("edit"), **given, out=folder, **common)
        if record.command == "bench discovery":
            from workbench.bench.bench import bench_discovery
            from workbench.bench.settings import Settings

            how = {name: given.pop(name) for name in ("shard", "ray", "workers") if name in given}
            lists = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            return bench_discovery(Settings(**lists), folder, **how, **common)
    except TypeError as problem:
        if "unexpected keyword argument" not in str(problem):
            raise
        raise RunError(
            f"the record of {folder} does not fit this version: {problem}",
            hint="repeat it with the version that wrote it: workbench runs show says which",
        ) from problem
    raise RunError(
        f"{record.command} cannot be repeated from its record",
        hint="workbench runs show has the line to type",
    )
