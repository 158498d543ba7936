"""Frames that many papers share: claims by where they stand, what a setting must have, reasons that are the same."""

from __future__ import annotations

from functools import partial

from workbench.papers.kit.claims import Claim, Need, needs
from workbench.papers.kit.criteria import at_least

RECONSTRUCTED = "abstract, reconstructed"
Reconstructed = partial(Claim, where=RECONSTRUCTED)
"""A claim of a paper of which the abstract alone was read."""
Control = partial(Claim, where="a control of ours")
"""A claim that the paper does not make, and without which its own would say less."""
Extension = partial(Claim, where="an extension of ours")
"""A claim that goes further than the paper does."""
HALLUCINATED = "{hallucinated} answers yes are hallucinated and {truly} right"
"""What is counted where a *yes* about something that is not there is a hallucination (``YesAnswers.counts``)."""
NO_PHOTOGRAPHS = "photographs and models of seven billion weights cannot be had here"


def answers(name: str, least: float) -> Need:
    """Make the need that a model answers enough questions rightly.

    Args:
        name: The condition or number that has the share of right answers.
        least: That is asked for.

    Example:
        >>> answers("right", 0.6).why
        '{right:.0%} of the questions are answered rightly; 60% is asked for'
    """
    asked = f"{{{name}:.0%}} of the questions are answered rightly; {least:.0%} is asked for"
    return needs(at_least(name, least), asked)


def enough(*names: str, least: int, of: str) -> Need:
    """Make the need that there are enough of what was counted.

    Args:
        names: Of the counts, among the numbers; each is needed.
        of: What is counted, a text with their ``{names}``.

    Example:
        >>> enough("invented", least=20, of="{invented} things are invented").why
        '{invented} things are invented; 20 are asked for'
    """
    of_each = " of each" if len(names) > 1 else ""
    return needs(
        lambda c: min(c.number(name) for name in names) >= least, f"{of}; {least}{of_each} are asked for"
    )
