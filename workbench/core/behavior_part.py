"""What a model does on some pairs, as part of other files: the numbers of a ``Behavior`` and what follows from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from workbench.core.typed import Count, Part, check_part

Probability = Annotated[float, Meta(ge=0, le=1)]


class MeanPart(Part, frozen=True):
    """A mean over pairs with its 95 % interval; null where there are too few pairs for one."""

    mean: float | None
    low: float | None
    high: float | None


class BehaviorPart(Part, frozen=True):
    """The metric of both runs and the share of pairs answered rightly; ``finding`` says whether that is the task."""

    finding: Literal["yes", "noise", "as guessing", "wrong", "opposite", "open"]
    does_task: bool | None
    sentence: str
    metric: str
    unit: str
    n: Count
    clusters: Annotated[Count, Meta(description="independent pairs, or groups of pairs")]
    clean: MeanPart
    corrupted: MeanPart
    gap: Annotated[MeanPart, Meta(description="clean minus corrupted, times the metric's direction")]
    gap_p: Annotated[Probability, Meta(description="of such a gap where there is none, by sign flips")]
    right: Annotated[MeanPart | None, Meta(description="share of clean prompts answered rightly")]
    guess: Annotated[Probability, Meta(description="the share that guessing gives")]


def check_behaviors(evaluation: dict[str, Any], *names: str) -> None:
    """The behaviors in the free object ``evaluation``, where it has some, are whole.

    Raises:
        ValueError: saying which is not.
    """
    for name in names:
        if name in evaluation:
            check_part(evaluation[name], BehaviorPart, f"evaluation.{name}")
