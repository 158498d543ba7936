"""Clean-corrupted: EAP with the mean of two gradients, one at each end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.gradients import BOTH_ENDS, CleanCorrupted
from workbench.methods.points import ends
from workbench.methods.registry import Level


def clean_corrupted(
    runs: PairedRuns,
    options: CleanCorrupted,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """EAP with the mean of the gradients at the clean and at the corrupted input: the trapezoid rule of EAP-IG.

    Source:
        Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806, whose code has it.
    """
    return gradient_scores(
        runs,
        Recipe(points=lambda graph: ends("both"), backward=options.backward),
        level=level,
        method="clean-corrupted",
        source="arXiv:2403.17806",
        options=asdict(options),
        passes=BOTH_ENDS.passes,
        per_position=per_position,
        progress=progress,
    )
