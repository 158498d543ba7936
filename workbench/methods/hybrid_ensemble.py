"""Hybrid ensemble: several methods beside each other, one of them edge pruning that starts from scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.ensemble import combined, from_each, of_one_kind, scaled
from workbench.methods.options.combinations import HybridEnsemble
from workbench.methods.registry import Level
from workbench.methods.serial_ensemble import serial_ensemble


def hybrid_ensemble(
    runs: PairedRuns, options: HybridEnsemble, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Mean of several methods and of edge pruning that starts from one of them (hybrid ensemble).

    Masks have no sign: each gets that of the mean of the other methods, and counts as one of them.

    Returns:
        Scores on the scale asked for; positive supports the behavior.

    Source:
        arXiv:2510.06811; how signs and scales meet is not published.
    """
    each = [score(runs, name, level=level, progress=progress) for name in options.of]
    of_one_kind(each, runs.metric.unit)
    rows = np.stack([scaled(found.values[found.candidates], options.scale) for found in each])
    serial = serial_ensemble(runs, options.serial(), level=level, progress=progress)
    masks = scaled(serial.values[serial.candidates], options.scale) * np.sign(rows.mean(0))
    values = combined(np.concatenate([rows, masks[None]]), "mean")
    return from_each([*each, serial], values, "hybrid-ensemble", asdict(options), options.scale)
