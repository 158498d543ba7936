"""What speaks for a circuit beyond its faithfulness: is it this task's, and do single pairs agree on it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.core.errors import OptionError
from workbench.core.stats.intervals import ratio
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import run_circuits
from workbench.evaluate.specificity import OtherTasks, specificity

CUTS = 8  # random circuits of the same size that are cut out of the model beside it
MOST_TASKS = 3  # other tasks that a circuit is cut out on


def variation(circuit: Circuit, judged: PairedRuns) -> float:
    """Return the standard deviation over pairs of a circuit's faithfulness, divided by its mean.

    Returns:
        The coefficient of variation, without unit; NaN where fewer than two pairs have a gap, or the mean is 0.
    """
    nothing = Circuit.build(shape=circuit.shape, nodes={}, edges={}, level=circuit.level)
    kept, empty = run_circuits(judged, [circuit, nothing])
    each = np.array([ratio(*(v[[i]] for v in (kept, judged.clean, empty))) for i in range(judged.n_pairs)])
    known = each[np.isfinite(each)]
    if len(known) < 2 or known.mean() == 0:
        return float("nan")
    return float(known.std(ddof=1) / abs(known.mean()))


def cut_out(circuit: Circuit, judged: PairedRuns, others: OtherTasks, *, seed: int) -> Mapping[str, Any]:
    """Cut a circuit out of the model on its own task and on others, beside random circuits of its size.

    Returns:
        Shares of each gap that are lost without the circuit (``own``, mean of ``others``), their difference, its mean
        over random circuits, and how many of these reach it; or the reason why it was not measured.
    """
    if others.lack:
        return {"left_out": others.lack}
    try:
        found = specificity(circuit, judged, others=others, draws=CUTS, seed=seed)
    except OptionError as problem:
        return {"left_out": problem.message}
    value, random = found.value, found.random
    return {
        "value": _known(value),
        "own": _known(found.own.drop),
        "others": _known(found.own.drop - value),
        "random": _known(float(random.mean())),
        "reached_by": int((random >= value).sum()),
        "draws": len(random),
        "tasks": [other.task for other in found.others],
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
