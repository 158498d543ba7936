"""The command ``circuit why`` as a function: open the model with its pairs, and ask for the reason of an edge."""

from __future__ import annotations

from workbench.circuits.reason import Reason
from workbench.commands.asked.why import opening_of
from workbench.commands.forms.why import Why
from workbench.commands.inputs import open_runs
from workbench.core.job import Job
from workbench.engine.explained_edge import why as reason_of


def why(asked: Why, job: Job) -> Reason:
    """Say which writers make the attention score that an edge acts on."""
    runs = open_runs(note=job.note, **opening_of(asked))
    at = int(asked.at) if asked.at is not None and asked.at.isdecimal() else asked.at
    return reason_of(runs, asked.edge, at=at)
