"""Frames that many papers share: claims by where they stand, what a setting must have, reasons that are the same."""

from __future__ import annotations

from functools import partial

import numpy as np

from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import SHARE, Interval
from workbench.heads.localisation import Localisation
from workbench.papers.kit.beside import Range
from workbench.papers.kit.claims import Claim, Need, needs, untried
from workbench.papers.kit.conditions import Conditions
from workbench.papers.kit.criteria import above, area, at_least, at_most, correlates, dealt, fact, tells
from workbench.papers.kit.outcome import Criterion

RECONSTRUCTED = "abstract, reconstructed"
Reconstructed = partial(Claim, where=RECONSTRUCTED)
"""A claim of a paper of which the abstract alone was read."""
untried_reconstructed = partial(untried, where=RECONSTRUCTED)
"""One that no setting here can test."""
SUMMARISED = "summary, reconstructed"
Summarised = partial(Claim, where=SUMMARISED)
"""A claim of a paper of which a summary was read."""
AS_TOLD = "as told by others"
Told = partial(Claim, where=AS_TOLD, models=None)
"""A claim of a paper that was read in an account of others; about how something is defined, whatever the model."""
Defined = partial(Claim, where="definition", models=None)
"""A claim that follows from how something is defined, whatever the model."""
Control = partial(Claim, where="a control of ours")
"""A claim that the paper does not make, and without which its own would say less."""
Extension = partial(Claim, where="an extension of ours")
"""A claim that goes further than the paper does."""
HALLUCINATED = "{hallucinated} answers yes are hallucinated and {truly} right"
"""What is counted where a *yes* about something that is not there is a hallucination (``YesAnswers.counts``)."""
NO_PHOTOGRAPHS = "photographs and models of seven billion weights cannot be had here"


def answers(name: str, least: float, said: str = "{} of the questions are answered rightly") -> Need:
    """Make the need that a model answers enough questions rightly.

    Args:
        name: The condition or number that has the share of right answers.
        least: That is asked for.
        said: What the model does, where it is something else than to answer questions.

    Example:
        >>> answers("right", 0.6).why
        '{right:.0%} of the questions are answered rightly; 60% is asked for'
    """
    found = said.format(f"{{{name}:.0%}}")
    return needs(at_least(name, least), f"{found}; {least:.0%} is asked for")


def loses_less(words: str, pair: tuple[str, str], than: tuple[str, str]) -> Criterion:
    """State that what one condition lacks to another is less than a second pair differs, both intervals apart.

    Args:
        words: The rule as a sentence.
        pair: As it is, and with a loss.
        than: The same of those that should lose more.

    Example:
        >>> c, rest = Conditions(), np.full(40, 0.9)
        >>> c["facts"], c["facts, masked"], c["needles"], c["needles, masked"] = rest, rest, rest, rest - 0.5
        >>> loses_less("less than needles", ("facts", "facts, masked"), ("needles", "needles, masked"))(c).holds
        True
    """

    def both(c: Conditions) -> list[Interval]:
        return [c.interval(*pair), c.interval(*than)]

    return fact(words, lambda c: both(c)[0].high < both(c)[1].low, intervals=both)


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


def room(name: str, most: float, what: str, *keeps: str) -> Need:
    """Make the need that something can still become better.

    Args:
        name: The condition that is to become better.
        most: That it may be.
        what: What it is, a text with its ``{name}``.
        keeps: What is told all the same (``Need``).

    Example:
        >>> room("right", 0.98, "{right:.1%} are right").why
        '{right:.1%} are right: there is no room to gain'
    """
    return needs(at_most(name, most), f"{what}: there is no room to gain", *keeps)


def above_in_pairs(name: str, over: str, pairs: int) -> Criterion:
    """A condition is above another in the mean of several pairs of models, and in each (``name, pair 0``).

    Example:
        >>> above_in_pairs("sees", "blind", 1).words.count("above 0, interval included")
        2
    """
    rule = above(name, over)
    for pair in range(pairs):
        rule = rule & above(f"{name}, pair {pair}", f"{over}, pair {pair}")
    return rule


def ranks_with(name: str, along: str) -> Criterion:
    """A value goes with another one of the same items: their rank correlation, by its interval and by dealing.

    Example:
        >>> ranks_with("entropy", "objects").words.count("rank correlation of entropy and objects")
        2
    """
    words = f"rank correlation of {name} and {along}"
    return correlates(name, along) & dealt(words, spearman, name, along, draws=1000)


def tells_beyond_deals(name: str, truth: str) -> Criterion:
    """A value tells the items for which ``truth`` is 1 from the others: the AUROC, by its interval and by dealing.

    Example:
        >>> tells_beyond_deals("entropy", "wrong").words.startswith("AUROC of entropy for wrong above 0.5")
        True
    """

    def over_chance(values: np.ndarray, labels: np.ndarray) -> float:
        return area(values, labels) - 0.5

    words = f"AUROC, less 0.5, of {name} and {truth}"
    return tells(name, truth) & dealt(words, over_chance, name, truth, draws=1000)


def add_layers(
    c: Conditions, name: str, depth: str, values: np.ndarray, *, unit: str, within: Range = None
) -> None:
    """Set a condition that has a value for every item and layer, and beside it the layer of each.

    Args:
        name, depth: Of the values and of their layers, for criteria such as ``slopes``.
        values: ``(item, layer)``; an item is drawn whole, with all its layers.

    Example:
        >>> c = Conditions()
        >>> add_layers(c, "entropy", "layer", np.array([[2.0, 1.0], [3.0, 1.5]]), unit="nats")
        >>> c["layer"].tolist(), c.n("entropy")
        ([0.0, 1.0, 0.0, 1.0], 2)
    """
    items, layers = values.shape
    of_item = np.repeat(np.arange(items), layers).tolist()
    c.add(name, values.flatten(), unit=unit, within=within, clusters=of_item)
    c.add(depth, np.tile(np.arange(layers, dtype=float), items), unit="layer", clusters=of_item)


def add_localisation(c: Conditions, name: str, lies: Localisation) -> None:
    """Set where maps lie: ``pointing, NAME``, ``mass, NAME``, ``lift, NAME`` and ``lift of others, NAME``."""
    c.add(f"pointing, {name}", lies.pointing, within=SHARE, unit="share of maps that point at the object")
    c.add(f"mass, {name}", lies.mass, within=SHARE, unit="share of the map on the object")
    c.add(f"lift, {name}", lies.lift, unit="weight of a patch, 1 for an even map")
    c.add(f"lift of others, {name}", lies.other_lift, unit="weight of a patch, 1 for an even map")
