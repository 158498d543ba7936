"""Where gradients are taken: points between the reference and the clean run. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.core.errors import OptionError
from workbench.model.wiring import Site

Quadrature = Literal["midpoint", "left", "right"]
At = Literal["clean", "corrupted", "both"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a gradient is taken.

    Attributes:
        alpha: From the reference (0) to clean (1).
        site: What is put there: the model's input if None, else the output of this (layer, site) alone.
    """

    alpha: float = 1.0
    site: Site | None = None


def quadrature(steps: int, rule: Quadrature) -> list[float]:
    """Return points on the line from 0 to 1.

    Raises:
        OptionError: for fewer than one step or an unknown rule.
    """
    offsets = {"left": 0.0, "midpoint": 0.5, "right": 1.0}
    if steps < 1:
        raise OptionError(f"steps is {steps}; at least 1 is needed", hint="--option steps=5 is usual")
    if rule not in offsets:
        raise OptionError(f"no rule called {rule!r}", hint=f"rules: {', '.join(offsets)}")
    return [(k + offsets[rule]) / steps for k in range(steps)]


def ends(at: At) -> list[Point]:
    """Return the clean run, the corrupted run, or both.

    Raises:
        OptionError: for another word.
    """
    alphas = {"clean": [1.0], "corrupted": [0.0], "both": [1.0, 0.0]}
    if at not in alphas:
        raise OptionError(f"gradients cannot be taken at {at!r}", hint=f"at: {', '.join(alphas)}")
    return [Point(alpha=alpha) for alpha in alphas[at]]
