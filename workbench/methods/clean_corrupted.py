"""Clean-corrupted: EAP with the mean of two gradients, one at each end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from workbench.methods.attribution import Recipe, ends, gradient_scores
from workbench.methods.registry import Cost, Level, method
from workbench.scores import Scores
from workbench.sweep.backward import Backward, rule_of
from workbench.sweep.runs import PairedRuns

_COST = Cost(forward=3, backward=2)


@dataclass(frozen=True, kw_only=True)
class CleanCorrupted:
    """Options of clean-corrupted.

    Attributes:
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp.
    """

    backward: Backward = "plain"

    def __post_init__(self) -> None:
        rule_of(self.backward)


@method(
    "clean-corrupted",
    levels=("edge", "node", "neuron"),
    source="Hanna et al. 2024, arXiv:2403.17806",
    options=CleanCorrupted,
    cost=lambda options, graph, level: _COST,
    per_position=True,
)
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
        passes=_COST.passes,
        per_position=per_position,
        progress=progress,
    )
