"""Methods that only watch the model: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.core.errors import OptionError
from workbench.methods.registry import Cost, declare

Prompts = Literal["both", "clean"]


@dataclass(frozen=True, kw_only=True)
class CircuitLasso:
    """Options of the regression of every part on those before it.

    Attributes:
        penalty: Price of an edge, as a share of the smallest price at which a part has none.
        parts: Numbers that the output of a part is told in: its largest principal components over prompts.
        prompts: ``both`` takes the clean and the corrupted prompts as so many prompts, ``clean`` the clean ones alone.
        steps: Most steps of the descent (FISTA) for a part.
    """

    penalty: float = 0.1
    parts: int = 4
    prompts: Prompts = "both"
    steps: int = 300

    def __post_init__(self) -> None:
        if not 0 < self.penalty < 1 or self.parts < 1 or self.steps < 1:
            raise OptionError(
                f"penalty is {self.penalty:g}, parts {self.parts}, steps {self.steps}; a share, 1 and 1 are the least",
                hint="--option penalty=0.1 --option parts=4",
            )
        if self.prompts not in ("both", "clean"):
            raise OptionError(f"prompts is {self.prompts!r}", hint="prompts: both, clean")


declare(
    "circuit-lasso",
    claim="Size of a part's coefficient in a sparse regression of each later part: dependence, not effect.",
    levels=("edge",),
    source="arXiv:2606.16939",
    options=CircuitLasso,
    cost=lambda options, graph, level: Cost(forward=2 if options.prompts == "both" else 1),
    selection="own",
    run="workbench.methods.circuit_lasso:circuit_lasso",
)
