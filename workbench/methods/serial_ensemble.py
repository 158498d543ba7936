"""Serial ensemble: edge pruning whose masks start from another method's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.edge_pruning import edge_pruning
from workbench.methods.options.combinations import SerialEnsemble
from workbench.methods.registry import Level


def serial_ensemble(
    runs: PairedRuns, options: SerialEnsemble, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Edge pruning whose masks start from the sizes of another method's scores (serial ensemble).

    In each layer of readers the masks of the highest scores start open, a tenth of them in the mean.

    Returns:
        Masks from 0 to 1, as edge pruning does; larger is kept first.

    Source:
        arXiv:2510.06811; the start as in released code for the MIB benchmark.
    """
    found = edge_pruning(runs, options, level=level, progress=progress)
    return replace(found, method="serial-ensemble", source="arXiv:2510.06811")
