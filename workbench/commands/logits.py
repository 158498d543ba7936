"""The command ``logits`` as a function: open model and pairs, take the logits apart, draw what is asked for."""

from __future__ import annotations

from workbench.circuits.logit_parts import LogitParts
from workbench.commands.forms.logits import Logits
from workbench.commands.inputs import open_runs
from workbench.core.atomic import write_output
from workbench.core.job import Job
from workbench.engine.direct_logits import direct_logits


def logits(asked: Logits, job: Job) -> LogitParts:
    """Say what each part adds to the logits directly, and what the stream says layer by layer."""
    runs = open_runs(note=job.note, **asked.opening())
    ablation = None if asked.no_effects else asked.ablation
    found: LogitParts = direct_logits(runs, by=asked.by, ablation=ablation, progress=job.progress)
    if asked.out is not None:
        write_output(asked.out, found.page())
    if asked.plot is not None:
        found.save_picture(asked.plot)
    return found
