"""Trained comparisons as conditions: answers of every arm, over its trainings and in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kit.claims import Claim, needs
from workbench.papers.kit.conditions import Conditions
from workbench.papers.kit.criteria import Criterion
from workbench.papers.kit.frames import SUMMARISED
from workbench.papers.options import size
from workbench.training.mixers.arms import get_comparison

with lazily():
    from workbench.training.mixers import shipped

if TYPE_CHECKING:
    from workbench.papers.kinds import Setting
    from workbench.training.mixers.comparison import AskedRows, TrainedArms

TRAININGS = 2  # of every arm; a claim about training has to hold in each
WHY = "why nothing can be compared with the reference"


@dataclass(frozen=True, kw_only=True)
class TrainedSizes:
    """Sizes of a paper about trained arms."""

    rows: int = size(150, "on which trained arms are judged")
    retrain: bool = size(False, "train anew in place of the shipped arms, with seeds that none of them has")
    steps: int = size(0, "of a training anew; 0 for those of the recipe")

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise OptionError(
                f"rows is {self.rows}; at least 2 are needed for an interval", hint="--set rows=2, or more"
            )


def arms_for(setting: Setting, name: str, *, first_seed: int) -> tuple[TrainedArms, AskedRows]:
    """Return the trained arms of a comparison and rows on which they are judged, which none of them saw.

    Args:
        first_seed: Of the paper's rows: no other seed of rows is near.
    """
    comparison, o = get_comparison(name), setting.options
    if o.steps and not o.retrain:
        raise OptionError("steps are those of a training anew", hint="--retrain --set steps=100")
    if o.steps:
        comparison = replace(comparison, steps=o.steps)
    seeds = [1000 + 10 * setting.seed + i for i, _ in enumerate(comparison.seeds)] if o.retrain else []
    arms = shipped.trained(comparison, retrain=o.retrain, seeds=seeds, progress=setting.progress)
    return arms, comparison.draw(np.random.default_rng([first_seed, setting.seed]), o.rows)


def add_arms(
    c: Conditions,
    arms: TrainedArms,
    rows: AskedRows,
    *,
    losses: bool = False,
    only: Sequence[str] = (),
    named: str = "{}",
) -> None:
    """Add right answers of every arm, one value a question, over its trainings and as ``ARM, training 1``.

    Args:
        losses: Add the loss of every question, in nats, in place of right answers.
        only: The arms that are added; all where none are named.
        named: How conditions are named after their arms, where two comparisons have arms of one name.
    """
    asked = np.nonzero(rows.target >= 0)[0].tolist()
    measure, within, unit = (
        (arms.loss, None, "nats") if losses else (arms.right, SHARE, "share of right answers")
    )
    for arm in only or arms.comparison.arms:
        found = measure(arm, rows).astype(float)
        add_trainings(c, named.format(arm), found, within=within, unit=unit, clusters=asked)
    c.numbers[named.format(WHY)] = arms.why_not(rows)
    c.numbers["weights"] = "shipped" if arms.shipped else "trained anew"


def rows_by_kind(
    c: Conditions, arms: TrainedArms, rows: AskedRows, kinds: Sequence[str], kind_of: np.ndarray
) -> Rows:
    """Return one row for each arm with its right answers, those to every kind of question, and its loss.

    Args:
        kinds: Their names.
        kind_of: The number of the kind of every question, in the order of rows.
    """
    return [
        {
            "arm": arm,
            "all": c.mean(arm),
            **{kind: float(c[arm][kind_of == i].mean()) for i, kind in enumerate(kinds)},
            "loss, nats": float(arms.loss(arm, rows).mean()),
        }
        for arm in arms.comparison.arms
    ]


def add_trainings(c: Conditions, name: str, found: Sequence[np.ndarray] | np.ndarray, **how: Any) -> None:
    """Add a condition over all trainings, and as ``NAME, training 1`` in each.

    Args:
        found: Of each training, one value per item.
        how: Said to ``Conditions.add``.

    Example:
        >>> c = Conditions()
        >>> add_trainings(c, "hits", [np.array([0.0, 1.0]), np.array([1.0, 1.0])], unit="share")
        >>> c.mean("hits"), c.mean("hits, training 1")
        (0.75, 0.5)
    """
    c.add(name, np.mean(found, axis=0), **how)
    for i, one in enumerate(found):
        c.add(of_training(name, i), one, **how)


def add_each_training(c: Conditions, found: Sequence[Mapping[str, np.ndarray]], **how: Any) -> None:
    """Add every condition that was measured in each training, as ``add_trainings`` does.

    Args:
        found: Of each training, by the names of conditions, one value per item.
        how: Said to ``Conditions.add``.

    Example:
        >>> c = Conditions()
        >>> add_each_training(c, [{"hits": np.array([0.0, 1.0])}, {"hits": np.array([1.0, 1.0])}], unit="share")
        >>> c.mean("hits"), c.mean("hits, training 2")
        (0.75, 1.0)
    """
    for name in found[0]:
        add_trainings(c, name, [one[name] for one in found], **how)


def add_means(c: Conditions, trainings: int) -> None:
    """Set every condition that has been added for each training as its mean over them, without the training's number.

    Example:
        >>> c = Conditions()
        >>> c["hits, training 1"], c["hits, training 2"] = np.array([0.0, 1.0]), np.array([1.0, 1.0])
        >>> add_means(c, 2)
        >>> c["hits"].tolist()
        [0.5, 1.0]
    """
    for name in [name for name in c.values if name.endswith(of_training("", 0))]:
        whole, told = name.removesuffix(of_training("", 0)), c.measures[name]
        mean = np.mean([c[of_training(whole, i)] for i in range(trainings)], axis=0)
        c.add(whole, mean, within=told.within, unit=told.unit, clusters=told.clusters)


def of_training(arm: str, i: int) -> str:
    """Name an arm of one training."""
    return f"{arm}, training {i + 1}"


def in_each(criterion: Callable[..., Criterion], name: str, over: str | None = None, **how: Any) -> Criterion:
    """A criterion of one arm, or of two, over all trainings, and in each by itself.

    Example:
        >>> from workbench.papers.kit.criteria import above
        >>> in_each(above, "dense", by=1.0).words.count("above 1, interval included")
        3
    """
    found = criterion(name, over, **how)
    for i in range(TRAININGS):
        other = None if over is None else of_training(over, i)
        found = found & criterion(of_training(name, i), other, **how)
    return found


REFERENCE_LEARNED = needs(lambda c: not c.numbers[WHY], lambda c: c.numbers[WHY])
OfTrainings = partial(Claim, models=TRAININGS)
"""A claim about trained models, of which there are several trainings."""
Trained = partial(OfTrainings, needs=[REFERENCE_LEARNED])
"""One that compares arms: the arm that all are compared with has to have learned the task."""
TrainedControl = partial(Trained, where="a control of ours")
TrainedExtension = partial(Trained, where="an extension of ours")
TrainedSummarised = partial(Trained, where=SUMMARISED)
