"""What replications are asked: the paper or the study, its options, the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench.commands.asked.bars import check_bars
from workbench.commands.asked.inputs import check_opening
from workbench.commands.forms.replicate import MEASURED_BARS, Reproduce
from workbench.core.errors import UsageError
from workbench.papers.listing import NOTHING, paper_rows
from workbench.papers.options import options_from
from workbench.papers.registry import find_paper
from workbench.papers.studies.registry import STUDIES, check_study, study_rows

if TYPE_CHECKING:
    from workbench.commands.forms.replicate import Replicate
    from workbench.core.job import Job


@dataclass(frozen=True)
class StudySizes:
    """The settings of a study that is re-run step by step.

    Attributes:
        limit: Prompts that are measured.
        n_reference: Prompts that means are taken over, those included.
        batch_tokens: Most tokens in one forward pass.
    """

    limit: int = 64
    split: str = "test"
    n_reference: int = 256
    batch_tokens: int = 8192


def is_study(name: str) -> bool:
    """Say whether a name is that of a study: the paper of a published circuit."""
    return name.removeprefix("published:") in STUDIES


def study_of(asked: Replicate) -> Reproduce:
    """Return a study as ``replicate`` asks for it.

    Raises:
        OptionError: for a setting that studies do not have.
    """
    sizes = options_from(asked.options, StudySizes, asked.replication)
    known = {"study": asked.replication, "model": asked.model, "seed": asked.seed}
    return Reproduce(**{**known, **asdict(sizes), **asked.opening()})


def check_replication(asked: Replicate, job: Job) -> None:
    """Do nothing if there is such a replication, with such options, and the model is there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
        UsageError: for options that do not go together.
    """
    name = asked.replication
    if asked.results is not None:
        raise UsageError(
            "--results: only list takes results", hint="workbench replicate list --results FOLDER"
        )
    if name in MEASURED_BARS:
        return check_bars(asked, job)
    if asked.data is not None:
        raise UsageError(
            "--data: only published numbers have prompts of their own", hint="workbench replicate bars"
        )
    if asked.quick and (name != "all" or asked.docs is not None):
        raise UsageError(
            "--quick: only all runs quickly, and its verdicts are for no page of documentation",
            hint="workbench replicate all --quick; workbench replicate NAME --dry-run shows the sizes of one",
        )
    if asked.docs is not None and name != "all":
        raise UsageError(
            "--docs: only list and all write a page of documentation", hint="workbench replicate all"
        )
    if name == "all":
        if asked.options or job.dry_run:
            raise UsageError("--set, --dry-run: all runs every one on its defaults", hint="name one of them")
        return check_opening(model=asked.model, seed=asked.seed, **asked.opening())
    if is_study(name):
        return check_reproduction(study_of(asked), job)
    paper = find_paper(name)
    options_from(asked.options, paper.options, name)
    check_opening(model=asked.model or paper.model, seed=asked.seed, **asked.opening())


def model_of(asked: Reproduce) -> str:
    """Return the model that a study is re-run on.

    Raises:
        UsageError: if none is named.
    """
    if asked.model is None:
        raise UsageError("which model?", hint="-m gpt2, -m zoo:ioi or a directory")
    return asked.model


def check_reproduction(asked: Reproduce, job: Job) -> None:
    """Do nothing if there is such a study, and the model is there.

    Raises:
        WorkbenchError: if not, with the closest spellings.
        UsageError: if no model is named.
    """
    check_study(asked.study)
    model = model_of(asked)
    sizes = {"limit": asked.limit, "seed": asked.seed, "batch_tokens": asked.batch_tokens}
    check_opening(model=model, **{**sizes, **asked.opening()})


def rows_of_all() -> list[dict[str, Any]]:
    """Return one row per paper, then one per study behind a published circuit."""
    studies = [
        {
            "number": None,
            "name": row["study"],
            "paper": f"the study behind {row['published circuit']}, in {row['steps']} steps",
            "source": row["source"],
            "default model": None,
            **NOTHING,
            "built": True,
        }
        for row in study_rows()
    ]
    return [*paper_rows(), *studies]


def files_of(name: str) -> str:
    """Say what a replication writes."""
    if is_study(name):
        return "run.json, study.json, report.html, tables, circuit.json if there is one"
    return "run.json, replication.json, report.html, tables, pictures"
