"""Published numbers measured again on a model: opened, measured, printed."""

from __future__ import annotations

from workbench.bench.measured_bars import measured_bars
from workbench.circuits.published.bars import PublishedNumbers
from workbench.commands.forms.replicate import Replicate
from workbench.core.job import Job
from workbench.model.open import open_model


def measure_bars(asked: Replicate, job: Job) -> PublishedNumbers:
    """Open the model and measure a set of published numbers on it."""
    name = str(asked.model)
    model = open_model(name, **asked.opening())
    return measured_bars(asked.replication, model, name=name, data=asked.data, progress=job.progress)
