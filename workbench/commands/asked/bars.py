"""Published numbers: what is answered without a model, and what is checked before one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.circuits.published.bars import PublishedNumbers, bars_of, edge_counts, list_bars
from workbench.commands.asked.inputs import check_opening
from workbench.core.errors import OptionError, UsageError

if TYPE_CHECKING:
    from workbench.commands.forms.replicate import Replicate
    from workbench.core.job import Job


def known_bars(asked: Replicate) -> PublishedNumbers:
    """Return every bar, or the counts of edges beside theirs."""
    counted = edge_counts()
    bars = list_bars() if asked.replication == "bars" else bars_of(asked.replication)
    return PublishedNumbers(group=asked.replication, model="", bars=bars, ours=counted)


def check_bars(asked: Replicate, job: Job) -> None:
    """Do nothing if a model and a folder are named, and both are there.

    Raises:
        UsageError: if one is missing, or the table is to be kept: it is printed.
        OptionError: if there is no such folder.
    """
    name = asked.replication
    if job.out is not None or job.dry_run or job.resume or asked.options:
        raise UsageError(
            f"{name}: published numbers are printed beside yours, nothing is kept",
            hint=f"workbench replicate {name} -m gpt2 --data DIR --json > FILE",
        )
    if asked.model is None or asked.data is None:
        where = bars_of(name)[0].data
        raise UsageError(f"{name} needs a model and its prompts", hint=f"-m gpt2 --data DIR, with {where}")
    if not asked.data.is_dir():
        raise OptionError(f"{asked.data} is no folder", hint=f"--data DIR, with {bars_of(name)[0].data}")
    check_opening(model=asked.model, seed=asked.seed, **asked.opening())
