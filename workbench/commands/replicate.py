"""Running replications: open, plan, measure or show what is there, save."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.circuits.files.markdown import replace_part
from workbench.commands.asked.replicate import is_study, study_of
from workbench.commands.do import carry_out
from workbench.commands.forms.replicate import MEASURED_BARS, Replicate
from workbench.core.atomic import write_atomic
from workbench.core.claims import plain
from workbench.core.errors import ModelError, TaskError, WorkbenchError
from workbench.core.job import Job
from workbench.core.progress import silent
from workbench.core.registry import load
from workbench.core.run_record import RunRecord, digest_of
from workbench.core.show import Told
from workbench.core.text import folder_name
from workbench.model.identity import identity
from workbench.model.open import open_model
from workbench.papers.kept_result import load_result, plan_of, save_result, with_behaviors
from workbench.papers.kinds import Note, Progress, Replicable, Setting
from workbench.papers.options import words_of
from workbench.papers.quick import QUICK
from workbench.papers.registry import find_paper, find_replication, list_replications
from workbench.papers.result import Result, Results

if TYPE_CHECKING:
    from workbench.circuits.published.bars import PublishedNumbers
    from workbench.commands.reproduce import Reproduction
    from workbench.papers.studies.carried_out import ReproductionCost

BEGIN, END = "<!-- claims: workbench replicate all --docs PAGE -->", "<!-- end of claims -->"
ROOT = Path("runs") / "replicate"


def replicate_job(
    name: str,
    *,
    model: str | None = None,
    options: Sequence[str] = (),
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    note: Note = silent,
    **opening: Any,
) -> Any:
    """Measure a paper's claims on a model and save claims, pictures and tables; an equal run is shown, not repeated.

    Args:
        model: By default the replication's own.
        options: ``name=value`` texts; ``docs/replications.md`` names them.

    Returns:
        A `Result`; a `Plan` with ``dry_run``. For the study behind a published circuit a `Reproduction`.

    Raises:
        OptionError: for an unknown replication or option.
        RunError: if the folder holds something else, or another process is writing there.

    Example:
        >>> import workbench as wb
        >>> wb.replicate("pine", dry_run=True).model
        'zoo:kv'
    """
    asked = Replicate(replication=name, model=model, options=tuple(options), seed=seed, **opening)
    job = Job(out=out and Path(out), resume=resume, dry_run=dry_run, progress=progress, note=note)
    return carry_out(asked, job)


def replicate(
    asked: Replicate, job: Job
) -> Result | Results | Reproduction | Plan | ReproductionCost | PublishedNumbers:
    """Measure one paper's claims, or those of all; re-run a study; print published numbers beside ours."""
    if asked.replication == "all":
        return _all(asked, job, list_replications())
    if asked.replication in MEASURED_BARS:
        return load("workbench.commands.bars:measure_bars")(asked, job)
    if is_study(asked.replication):
        return load("workbench.commands.reproduce:reproduce")(study_of(asked), job)
    return _planned(asked, job) if job.dry_run else _one(asked, job)


def _planned(asked: Replicate, job: Job) -> Plan:
    """Say what would be measured."""
    chosen = find_replication(asked.replication)
    made, model = chosen.make_options(asked.options), asked.model or find_paper(asked.replication).model
    folder = str(job.out or ROOT / asked.replication)
    return Plan(
        replication=chosen, model=model, options=plain(asdict(made)), words=words_of(made), folder=folder
    )


def _one(asked: Replicate, job: Job) -> Result:
    """Measure a paper's claims, or show what is there."""
    name, chosen = asked.replication, find_replication(asked.replication)
    made, model = chosen.make_options(asked.options), asked.model or find_paper(asked.replication).model
    started, worked = time.monotonic(), time.process_time()
    opened = open_model(model, **asked.opening())
    how: dict[str, Any] = {"seed": asked.seed, "progress": job.progress or silent, "note": job.note}
    setting = Setting(model=opened, name=model, options=made, **how)
    plan = plan_of(chosen, setting)
    question = digest_of(plan)
    record = RunRecord(
        command="replicate",
        arguments=replace(asked, model=model).arguments(),
        model=identity(opened).to_dict(),
        pairs={},
        question=question,
    )

    def compute(folder: Path) -> Result:
        with saying_what_lacks(name, model, usual=find_paper(name).model):
            findings = with_behaviors(chosen.run(setting), setting)
        record.behaviors = setting.behaviors
        told = {"seconds": time.monotonic() - started, "core_seconds": time.process_time() - worked}
        return Result.of(chosen, model=model, findings=findings, plan=plan, folder=folder, **told)

    folder = job.out or ROOT / name / f"{folder_name(model)}-{question[:8]}"
    return job.keep(folder, record, compute, save_result, finished=lambda at: load_result(at, question))


@contextmanager
def saying_what_lacks(name: str, model: str, *, usual: str) -> Iterator[None]:
    """Say of an error on another model than the paper's own that this paper needs what the model lacks.

    Args:
        usual: The paper's own model.
    """
    try:
        yield
    except (ModelError, TaskError) as problem:
        if model == usual:
            raise
        also = f"; or {problem.hint}" if problem.hint and usual not in problem.hint else ""
        raise type(problem)(
            f"{name} cannot be measured on {model}, which lacks something that it needs: {problem.message}",
            hint=f"workbench replicate {name} -m {usual} has all of it{also}",
        ) from problem


def replicate_all(
    names: Iterable[str] = (),
    *,
    out: Path | None = None,
    model: str | None = None,
    docs: Path | None = None,
    note: Note = silent,
    progress: Progress | None = None,
    **common: Any,
) -> Results:
    """Replicate every paper on its own model (or all on one), and write one page of all claims.

    Args:
        docs: Also put the tables of claims into this page, between its marks.

    One that cannot run there does not stop the others: the page says why. Finished ones are shown, not repeated, so
    the same call goes on after a kill. Page and document are written after every paper.

    Returns:
        The results by name, and the replications that ended in an error.

    Raises:
        OptionError: for an unknown name.
    """
    asked = Replicate(replication="all", model=model, docs=docs, **common)
    return _all(
        asked,
        Job(out=out and Path(out), note=note, progress=progress),
        tuple(names) or list_replications(),
    )


def _all(asked: Replicate, job: Job, names: Sequence[str]) -> Results:
    for name in names:
        find_paper(name)
    results: list[Result] = []
    failed: dict[str, str] = {}
    root = (job.out or ROOT) if not (asked.quick and job.out is None) else ROOT / "quick"
    page = Results(results=results, failed=failed, folder=root)
    for i, name in enumerate(names, start=1):
        job.note(f"{i}/{len(names)} {name}")
        own = replace(job, out=None if job.out is None and not asked.quick else root / name)
        sizes = QUICK.get(name, ()) if asked.quick else ()
        try:
            results.append(_one(replace(asked, replication=name, docs=None, quick=False, options=sizes), own))
        except WorkbenchError as problem:
            failed[name] = problem.message
            job.note(f"{name} gave no result: {problem}")
        page = _written(Results(results=results, failed=failed, folder=root))
    if asked.docs is not None:
        replace_part(asked.docs, BEGIN, END, page.markdown())
    return page


def _written(page: Results) -> Results:
    """Write page and document after every paper, so that a kill leaves what was measured until then."""
    write_atomic(page.folder / "all.html", page.page())
    page.save(page.folder)
    return page


@dataclass(frozen=True, kw_only=True)
class Plan(Told):
    """What a replication would do.

    Attributes:
        words: What options are, by name.
    """

    replication: Replicable
    model: str
    options: Mapping[str, Any]
    folder: str
    words: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        chosen = self.replication
        return {
            "dry_run": True,
            "replication": chosen.name,
            "title": find_paper(chosen.name).title,
            "source": find_paper(chosen.name).source,
            "about": chosen.about,
            "model": self.model,
            "options": dict(self.options),
            "what options are": dict(self.words),
            "controls": list(chosen.controls),
            "folder": self.folder,
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        shown = self.to_dict()
        options, words = shown.pop("options"), shown.pop("what options are")
        rows = [
            {"option": name, "value": value, "what it is": words.get(name)} for name, value in options.items()
        ]
        return ["dry run: nothing was measured; no weights were loaded", rows if words else options, shown]


__all__ = ["Plan", "load_result", "plan_of", "replicate_all", "replicate_job"]
